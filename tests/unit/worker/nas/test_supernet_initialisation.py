"""Aligned choices start as one function; independent ones as blocks.initialise draws them."""

import pytest
import torch

from app.domain.search_space import preset
from worker.nas.blocks import InvertedResidual
from worker.nas.supernet import Supernet
from worker.nas.supernet_initialisation import initialise_supernet


def supernet(name, initialisation="aligned", seed=0, resolution=32, residual_scale=0.0):
    space = preset(name).proxy(resolution=resolution, width=0.25, num_classes=10)
    network = Supernet(space)
    initialise_supernet(network, initialisation, torch.Generator().manual_seed(seed), residual_scale=residual_scale)
    network.head.dropout.p = 0.0
    return network.double().train()


def images():
    return torch.randn(8, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["fairnas", "fairnas-se"])
def test_all_paths_start_as_one_function(name):
    network = supernet(name)
    logits = [network(images(), path) for path in ([0] * 19, [5] * 19, [i % 6 for i in range(19)])]
    assert torch.allclose(logits[0], logits[1], rtol=1e-8, atol=1e-10)
    assert torch.allclose(logits[0], logits[2], rtol=1e-8, atol=1e-10)
    assert logits[0].std() > 0


def test_choices_that_share_neither_expansion_nor_kernel_are_aligned_too():
    network = supernet("nas-bench-macro")
    one, two = (network(images(), [choice] * 8) for choice in (1, 2))
    assert torch.allclose(one, two, rtol=1e-8, atol=1e-10)


def test_the_larger_choices_can_part_from_the_smaller():
    """Weights without effect at the start still get a gradient, or those behind them do."""
    network = supernet("fairnas")
    network(images(), [5] * 19).square().mean().backward()
    block = network.block(0, 5)
    half = block.project.conv.in_channels // 2
    assert block.project.conv.weight.grad[:, half:].abs().max() > 0
    edge = block.depthwise.conv.weight.grad[:half, :, 0]
    assert edge.abs().max() > 0


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_residual_branches_start_at_their_scale_and_others_at_one(scale):
    network = supernet("fairnas", residual_scale=scale)
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    for block in blocks:
        assert (block.project.bn.weight == (scale if block.residual else 1.0)).all()
    assert {block.residual for block in blocks} == {True, False}


def test_weights_in_front_of_batch_norms_are_equally_long():
    network = supernet("fairnas", seed=3)
    for module in network.modules():
        if isinstance(module, InvertedResidual):
            for layer in (module.expand, module.depthwise):
                length = layer.conv.weight.flatten(1).norm(dim=1).mean()
                assert 0.9 < length < 1.6


def test_independent_is_the_blocks_own_initialisation():
    network = supernet("nas-bench-macro", "independent", residual_scale=1.0)
    plain = Supernet(network.space, torch.Generator().manual_seed(0)).double()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))


def test_the_generator_decides():
    first, again, other = supernet("fairnas"), supernet("fairnas"), supernet("fairnas", seed=1)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
