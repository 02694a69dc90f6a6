"""The building blocks of a network: shapes, residual connections, attention and how their weights begin."""

import pytest
import torch
from torch import nn

from app.domain.search_space import Choice, Head, Stem, preset
from worker.nas import blocks
from worker.nas.blocks import (
    ConvBN,
    InvertedResidual,
    SqueezeExcitation,
    activation,
    build_choice,
    build_stem,
    initialise,
)

MACRO = preset("nas-bench-macro")
FAIRNAS = preset("fairnas").proxy(resolution=32, width=0.25, num_classes=10)


def test_a_residual_block_adds_its_input() -> None:
    block = build_choice(FAIRNAS, 1, FAIRNAS.cells[1].choices[3])
    assert isinstance(block, InvertedResidual)
    nn.init.zeros_(block.project.bn.weight)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), x)


def test_the_last_convolution_of_a_block_is_linear() -> None:
    block = build_choice(FAIRNAS, 0, FAIRNAS.cells[0].choices[0])
    assert isinstance(block, InvertedResidual)
    assert not block.residual
    assert isinstance(block.project.activation, nn.Identity)
    assert (block(torch.randn(8, 8, 8, 8)) < 0).any()


def test_blocks_halve_the_pixels_rounding_up() -> None:
    block = build_choice(FAIRNAS, 0, FAIRNAS.cells[0].choices[2])
    assert block(torch.randn(2, 8, 7, 7)).shape == (2, 8, 4, 4)


class TestIdentity:
    def test_where_the_shape_stays_it_is_nothing(self) -> None:
        block = build_choice(MACRO, 1, MACRO.cells[1].choices[0])
        x = torch.randn(2, 64, 4, 4)
        assert torch.equal(block(x), x)
        assert not list(block.parameters())

    def test_where_the_shape_changes_it_is_a_linear_pointwise_convolution(self) -> None:
        block = build_choice(MACRO, 0, MACRO.cells[0].choices[0])
        assert isinstance(block, ConvBN)
        assert block.conv.kernel_size == (1, 1)
        assert isinstance(block.activation, nn.Identity)
        assert block(torch.randn(2, 32, 8, 8)).shape == (2, 64, 4, 4)


class TestSqueezeAndExcitation:
    def test_scales_every_channel_by_a_gate(self) -> None:
        layer = SqueezeExcitation(6, 3, "swish")
        x = torch.rand(2, 6, 5, 5) + 0.5
        gate = layer(x) / x
        assert torch.allclose(gate, gate[:, :, :1, :1].expand_as(gate), atol=1e-6)
        assert ((gate > 0) & (gate < 1)).all()


class TestInitialisation:
    def test_scales(self) -> None:
        network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.Linear(400, 300))
        nn.init.constant_(network[1].weight, 7.0)  # type: ignore[arg-type]
        initialise(network, torch.Generator().manual_seed(0))
        convolution, norm, linear = ([p.detach() for p in module.parameters()] for module in network)
        assert float(convolution[0].std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
        assert float(linear[0].std()) == pytest.approx(0.01, rel=0.02)
        assert norm[0].eq(1).all()
        assert all(biases.eq(0).all() for biases in (convolution[1], norm[1], linear[1]))


@pytest.mark.parametrize(
    ("name", "kind"), [("relu", nn.ReLU), ("relu6", nn.ReLU6), ("swish", nn.SiLU), (None, nn.Identity)]
)
def test_activations(name: str | None, kind: type[nn.Module]) -> None:
    assert isinstance(activation(name), kind)  # type: ignore[arg-type]  # parametrised


def test_a_block_is_its_convolutions_one_after_the_other() -> None:
    """Expansion and depthwise with an activation, the projection without; evaluated with BN at identity."""
    choice = Choice(kernel_size=5, expansion=2)
    block = InvertedResidual(3, 3, choice, stride=1, residual=True, activation_name="relu6").eval()
    x = 4 * torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    scale = (1 + block.expand.bn.eps) ** -0.5
    expanded = (scale * nn.functional.conv2d(x, block.expand.conv.weight)).clamp(0, 6)
    filtered = nn.functional.conv2d(expanded, block.depthwise.conv.weight, padding=2, groups=6)
    projected = nn.functional.conv2d((scale * filtered).clamp(0, 6), block.project.conv.weight)
    assert torch.allclose(block(x), x + scale * projected, atol=1e-6)


def test_the_cells_may_have_an_activation_of_their_own() -> None:
    space = FAIRNAS.model_copy(update={"activation": "relu", "cell_activation": "swish"})
    block = build_choice(space, 1, space.cells[1].choices[0])
    assert isinstance(block, InvertedResidual)
    assert isinstance(block.expand.activation, nn.SiLU)
    assert all(isinstance(layer.activation, nn.ReLU) for layer in build_stem(space)[:-1])


@pytest.mark.parametrize(
    ("stem", "shape", "last"),
    [
        (Stem(out_channels=12, stride=1), (2, 12, 9, 9), nn.ReLU6),
        (Stem(out_channels=12, stride=2), (2, 12, 5, 5), nn.ReLU6),
        (Stem(out_channels=12, stride=2, separable_out_channels=5), (2, 5, 5, 5), nn.Identity),
    ],
)
def test_the_stem_ends_linearly_where_it_is_separable(
    stem: Stem, shape: tuple[int, ...], last: type[nn.Module]
) -> None:
    layers = build_stem(FAIRNAS.model_copy(update={"stem": stem}))
    assert layers(torch.randn(2, 3, 9, 9)).shape == shape
    assert isinstance(layers[-1], ConvBN)
    assert isinstance(layers[-1].activation, last)


def test_the_head_averages_over_all_pixels() -> None:
    """Where an image is shifted, its logits stay; and dropout is before the classifier."""
    space = FAIRNAS.model_copy(update={"head": Head(out_channels=16, dropout=0.5)})
    head = blocks.Head(space).eval()
    x = torch.randn(2, space.cells[-1].out_channels, 4, 4)
    assert torch.allclose(head(x), head(x.roll((1, 2), (2, 3))), atol=1e-5)
    assert head(x).shape == (2, 10)
    assert not torch.equal(head.train()(x), head(x))
