"""One architecture as a network of its own equals the path through the supernet."""

import pytest
import torch

from app.domain.multi_adds import count
from app.domain.search_space import InvalidArchitectureError, SearchSpace, preset
from worker.nas.checkpoint import CheckpointError
from worker.nas.data import load_search_data
from worker.nas.plain_evaluation import evaluate_plain
from worker.nas.subnetwork import (
    Subnetwork,
    fresh_subnetwork,
    inherited_subnetwork,
    inherited_weights,
    load_subnetwork,
    num_correct,
)
from worker.nas.supernet import Supernet

SPACES = [
    preset(name).proxy(resolution=8, width=0.25, num_classes=10)
    for name in ("fairnas", "fairnas-se", "nas-bench-macro")
]


def mixed(space: SearchSpace) -> tuple[int, ...]:
    return tuple((cell_index * 2 + 1) % n for cell_index, n in enumerate(space.num_choices))


def supernet_of(space: SearchSpace) -> Supernet:
    return Supernet(space, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def data():
    return load_search_data(
        "digits",
        None,
        resolution=8,
        num_classes=None,
        num_images=200,
        validation_fraction=0.2,
        num_calibration_images=40,
        seed=0,
    )


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_inherited_weights_give_the_supernets_outputs(space: SearchSpace) -> None:
    supernet, architecture = supernet_of(space), mixed(space)
    network = load_subnetwork(space, architecture, inherited_weights(supernet, architecture))
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(network(images), supernet(images, architecture))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_it_has_the_parameters_of_one_architecture_only(space: SearchSpace) -> None:
    architecture = mixed(space)
    num_params = sum(p.numel() for p in Subnetwork(space, architecture).parameters())
    assert num_params == count(space, architecture).params


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_recalibrated_it_is_as_accurate_as_an_evaluation_says(space: SearchSpace, data) -> None:
    supernet, architecture = supernet_of(space), mixed(space)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    network = inherited_subnetwork(supernet, architecture, data)
    assert not network.training
    assert num_correct(network, data) == evaluate_plain(supernet, architecture, data, bn_statistics="recalibrated")
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_it_does_not_share_the_supernets_memory(data) -> None:
    space = SPACES[0]
    supernet, architecture = supernet_of(space), mixed(space)
    network = inherited_subnetwork(supernet, architecture, data)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert float(supernet.head.classifier.weight.detach().abs().sum()) > 0


def test_fresh_weights_come_from_the_generator() -> None:
    space = SPACES[0]
    first, again, other = (
        fresh_subnetwork(space, mixed(space), torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.conv.weight"], other["stem.0.conv.weight"])


def test_residual_branches_of_deep_networks_start_at_zero() -> None:
    space = SPACES[0]
    network = fresh_subnetwork(space, mixed(space), torch.Generator().manual_seed(0)).eval()
    residual = next(cell_index for cell_index in range(19) if space.keeps_shape(cell_index))
    x = torch.randn(2, space.in_channels(residual), 4, 4)
    assert torch.equal(network.cells[residual](x), x)


def test_foreign_weights_and_architectures_are_refused() -> None:
    space = SPACES[0]
    weights = inherited_weights(supernet_of(space), mixed(space))
    with pytest.raises(CheckpointError, match="not those of 0000000000000000000"):
        load_subnetwork(space, (0,) * 19, weights)
    with pytest.raises(InvalidArchitectureError):
        Subnetwork(space, (9,) * 19)


def test_images_with_infinite_logits_count_as_wrong(data) -> None:
    space = SPACES[0]
    network = fresh_subnetwork(space, mixed(space), torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.head.classifier.bias[:] = float("inf")
    assert num_correct(network, data) == 0
