"""The supernet: shapes, sharing, gradients, and costs against torch's own counters."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from app.domain.multi_adds import count
from app.domain.search_space import InvalidArchitectureError, SearchSpace, preset
from worker.nas.blocks import InvertedResidual, SqueezeExcitation
from worker.nas.supernet import Supernet

FAIRNAS, FAIRNAS_SE, MACRO = preset("fairnas"), preset("fairnas-se"), preset("nas-bench-macro")
A = (2, 0, 2, 3, 5, 0, 0, 5, 5, 1, 3, 1, 1, 3, 3, 5, 3, 5, 4)
M0 = (3,) * 19


def small(space: SearchSpace = FAIRNAS) -> SearchSpace:
    """A proxy small enough to run."""
    return space.proxy(resolution=32, width=0.25, num_classes=10)


def supernet_of(space: SearchSpace, seed: int = 0) -> Supernet:
    return Supernet(space, torch.Generator().manual_seed(seed))


def images(num: int, resolution: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))


def counted_multi_adds(space: SearchSpace, architecture: Sequence[int]) -> int:
    """Multi-adds as torch counts them (it counts two operations each), without computing anything."""
    with torch.device("meta"):
        network = Supernet(space).subnetwork(architecture).eval()
        x = torch.empty(1, 3, space.input_resolution, space.input_resolution)
    with FlopCounterMode(display=False) as counter:
        network(x)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def counted_params(space: SearchSpace, architecture: Sequence[int]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Supernet(space).subnetwork(architecture).parameters())


@pytest.mark.parametrize(
    ("space", "architecture"),
    [
        (FAIRNAS, A),
        (FAIRNAS, (0,) * 19),
        (FAIRNAS, (5,) * 19),
        (FAIRNAS_SE, A),
        (MACRO, (0,) * 8),
        (MACRO, (0, 1, 2, 0, 1, 2, 0, 1)),
        (MACRO, (2,) * 8),
        (FAIRNAS.proxy(resolution=33, width=0.3, num_classes=7), A),
        (FAIRNAS_SE.proxy(resolution=28, width=0.25), M0),
    ],
    ids=lambda value: value.name if isinstance(value, SearchSpace) else "".join(map(str, value)),
)
def test_analytic_costs_equal_torchs_own_count(space: SearchSpace, architecture: tuple[int, ...]) -> None:
    cost = count(space, architecture)
    assert counted_multi_adds(space, architecture) == cost.multi_adds
    assert counted_params(space, architecture) == cost.params


@pytest.mark.parametrize("space", [small(), small(FAIRNAS_SE), MACRO.proxy(width=0.25)], ids=lambda space: space.name)
def test_logits_of_any_architecture(space: SearchSpace) -> None:
    network = supernet_of(space)
    for choice in (0, 1, 2):
        logits = network(images(2, space.input_resolution), (choice,) * space.num_cells)
        assert logits.shape == (2, 10)
        assert logits.isfinite().all()


@pytest.mark.parametrize("resolution", [4, 17, 32])
def test_other_resolutions(resolution: int) -> None:
    assert supernet_of(small())(images(2, resolution), M0).shape == (2, 10)


@pytest.mark.parametrize("space", [small(), MACRO.proxy(width=0.25)], ids=lambda space: space.name)
def test_a_subnetwork_is_the_path_through_the_supernet(space: SearchSpace) -> None:
    network = supernet_of(space).eval()
    x = images(2, space.input_resolution)
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        architecture = [int(torch.randint(n, (1,), generator=rng)) for n in space.num_choices]
        assert torch.equal(network.subnetwork(architecture)(x), network(x, architecture))


def test_a_subnetwork_shares_the_weights() -> None:
    network = supernet_of(small())
    first = network.subnetwork(M0)
    shared = {id(p) for p in network.parameters()}
    assert all(id(p) in shared for p in first.parameters())
    other = network.subnetwork((0, *M0[1:]))
    assert {id(p) for p in first[2].parameters()} == {id(p) for p in other[2].parameters()}
    assert not {id(p) for p in first[1].parameters()} & {id(p) for p in other[1].parameters()}


def test_an_unknown_architecture_has_no_subnetwork() -> None:
    with pytest.raises(InvalidArchitectureError, match="choices 0 to 5, not 6"):
        supernet_of(small()).subnetwork((6, *M0[1:]))


def test_only_the_sampled_path_gets_gradients() -> None:
    space = small(FAIRNAS_SE)
    network = supernet_of(space)
    architecture = tuple(i % 6 for i in range(19))
    network(images(4, 32), architecture).square().mean().backward()
    for cell_index, choice in itertools.product(range(19), range(6)):
        parameters = list(network.block(cell_index, choice).parameters())
        if choice == architecture[cell_index]:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters), (cell_index, choice)
        else:
            assert all(p.grad is None for p in parameters), (cell_index, choice)
    assert all(p.grad is not None for p in [*network.stem.parameters(), *network.head.parameters()])


def test_only_the_sampled_paths_statistics_move() -> None:
    network = supernet_of(small()).train()
    network(images(4, 32), M0)
    moved = {
        (cell_index, choice)
        for cell_index, choice in itertools.product(range(19), range(6))
        if any(
            m.num_batches_tracked for m in network.block(cell_index, choice).modules() if isinstance(m, nn.BatchNorm2d)
        )
    }
    assert moved == {(i, 3) for i in range(19)}


@pytest.mark.parametrize("width", [0.1, 0.25, 1.0])
def test_a_proxy_keeps_the_residual_structure_of_its_target(width: float) -> None:
    proxy = FAIRNAS.proxy(resolution=32, width=width)
    with torch.device("meta"):
        network = Supernet(proxy)
    for cell_index, cell in enumerate(FAIRNAS.cells):
        target = cell.stride == 1 and FAIRNAS.in_channels(cell_index) == cell.out_channels
        blocks = [network.block(cell_index, choice) for choice in range(6)]
        assert {block.residual for block in blocks if isinstance(block, InvertedResidual)} == {target}


class TestSqueezeAndExcitation:
    def test_is_in_the_cells_of_the_variant_and_nowhere_else(self) -> None:
        with torch.device("meta"):
            with_attention, without = Supernet(FAIRNAS_SE), Supernet(FAIRNAS)
        found = [name for name, m in with_attention.named_modules() if isinstance(m, SqueezeExcitation)]
        assert len(found) == 19 * 6
        assert all(name.startswith("cells.") for name in found)
        assert not any(isinstance(m, SqueezeExcitation) for m in without.modules())

    def test_swish_is_in_the_cells_only(self) -> None:
        with torch.device("meta"):
            network = Supernet(FAIRNAS_SE)
        assert all(name.startswith("cells.") for name, m in network.named_modules() if isinstance(m, nn.SiLU))
        assert not any(name.startswith("cells.") for name, m in network.named_modules() if isinstance(m, nn.ReLU6))
        assert any(isinstance(m, nn.ReLU6) for m in network.stem.modules())

    def test_squeeze_width_comes_from_the_cells_input(self) -> None:
        with torch.device("meta"):
            network = Supernet(FAIRNAS_SE)
        block = network.block(2, 3)
        assert isinstance(block, InvertedResidual)
        assert isinstance(block.attention, SqueezeExcitation)
        assert (block.attention.squeeze.in_channels, block.attention.squeeze.out_channels) == (32 * 6, 32)


def test_one_seed_one_network() -> None:
    first, again, other = supernet_of(small()), supernet_of(small()), supernet_of(small(), seed=1)
    torch.manual_seed(99)
    states = [network.state_dict() for network in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.classifier.weight"], states[2]["head.classifier.weight"])
