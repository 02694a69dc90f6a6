"""Where a supernet starts from.

Independently drawn choices give every path features in a basis of its own, which the layers after them must all learn
at once: with the 19 cells of FairNAS and a laptop's budget, they learn nothing. Choices that start as one function
(``aligned``) train like one network at first and then part.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from worker.nas.blocks import InvertedResidual, SqueezeExcitation, initialise
from worker.nas.supernet import Supernet

Initialisation = Literal["aligned", "independent"]

INITIALISATIONS: tuple[Initialisation, ...] = get_args(Initialisation)


def initialise_supernet(
    network: Supernet, initialisation: Initialisation, generator: torch.Generator, *, residual_scale: float = 1.0
) -> None:
    """Set all weights of a supernet, from one generator.

    ``aligned``: convolutions are drawn by fan-in, so that the weights in front of every BN have the same length, and so
    the same effective learning rate (by fan-out, those of depthwise layers are ten times shorter, and one step changes
    them beyond recognition). Inverted residuals of a cell share the centre of their kernels and their first channels,
    and their other channels start without effect.

    ``independent``: every layer by itself, as :func:`~worker.nas.blocks.initialise` does.

    Args:
        network: The supernet.
        initialisation: ``aligned`` or ``independent``.
        generator: Source of all draws.
        residual_scale: Of the last BN of every residual branch. At 0 a residual block starts as an
            identity; within a small budget its weights then learn so little that the supernet ranks architectures by
            its other cells. But the deeper a proxy, the less it learns from 1.
    """
    initialise(network, generator)
    if initialisation == "aligned":
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                draw_by_fan_in(module.weight, generator)
        for cell in network.cells:
            assert isinstance(cell, nn.ModuleList)
            if blocks := [block for block in cell if isinstance(block, InvertedResidual)]:
                _align(blocks)
    for module in network.modules():
        if isinstance(module, InvertedResidual) and module.residual:
            nn.init.constant_(module.project.bn.weight, residual_scale)


def draw_by_fan_in(weight: Tensor, generator: torch.Generator) -> None:
    """Draw a convolution's weights with a variance of 2 over the inputs of an output."""
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu", generator=generator)


@torch.no_grad()
def _align(blocks: list[InvertedResidual]) -> None:
    """Give the inverted residuals of a cell the function that the smallest expansion and kernel among them can have."""
    shared = min(block.expand.conv.out_channels for block in blocks)
    smallest = min(block.depthwise.conv.kernel_size[0] for block in blocks)
    narrowest = next(block for block in blocks if block.expand.conv.out_channels == shared)
    expand = narrowest.expand.conv.weight.clone()
    project = narrowest.project.conv.weight.clone()
    margin = (narrowest.depthwise.conv.kernel_size[0] - smallest) // 2
    stop = margin + smallest
    # Drawn for a larger kernel, the centre alone is too short by the square root of the two areas' ratio.
    scale = narrowest.depthwise.conv.kernel_size[0] / smallest
    centre = narrowest.depthwise.conv.weight[:, :, margin:stop, margin:stop].clone() * scale
    for block in blocks:
        block.expand.conv.weight[:shared] = expand
        block.project.conv.weight.zero_()
        block.project.conv.weight[:, :shared] = project
        kernel = block.depthwise.conv.weight
        start = (kernel.shape[-1] - smallest) // 2
        kernel[:shared] = 0.0
        kernel[:shared, :, start : start + smallest, start : start + smallest] = centre
        if isinstance(block.attention, SqueezeExcitation) and isinstance(narrowest.attention, SqueezeExcitation):
            _align_attention(block.attention, narrowest.attention, shared)


def _align_attention(attention: SqueezeExcitation, template: SqueezeExcitation, shared: int) -> None:
    """The squeeze sees the shared channels only, and excites them alike, where it is as wide."""
    if attention is template or attention.squeeze.out_channels != template.squeeze.out_channels:
        return
    attention.squeeze.weight.zero_()
    attention.squeeze.weight[:, :shared] = template.squeeze.weight[:, :shared]
    attention.excite.weight[:shared] = template.excite.weight[:shared]
