"""Analytic multi-adds and parameters of a network of a search space.

Multi-adds count the convolutions and the fully connected layer; no BN, activation, pooling or bias. Parameters include
BN's scale and shift and the biases. A cell's costs depend on its own choice only, so an architecture's are a sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from app.domain.search_space import Choice, SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction

MILLION = 1_000_000


def in_units(millions: float) -> int:
    """Return a number in millions as a whole number of units, exact in the decimals that were given."""
    return math.floor(Decimal(repr(millions)) * MILLION)


@dataclass(frozen=True)
class Cost:
    """What a network, or a part of one, takes.

    Attributes:
        multi_adds: Multiply-accumulate operations per image.
        params: Trainable parameters.
    """

    multi_adds: int
    params: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.multi_adds + other.multi_adds, self.params + other.params)


ZERO = Cost(0, 0)


def _conv_bn(in_channels: int, out_channels: int, kernel_size: int, resolution: int, groups: int = 1) -> Cost:
    """A convolution without bias, at its output resolution, with BN."""
    weights = out_channels * (in_channels // groups) * kernel_size**2
    return Cost(weights * resolution**2, weights + 2 * out_channels)


def _biased_pointwise(in_channels: int, out_channels: int) -> Cost:
    """A fully connected layer, or a 1x1 convolution with bias on a pooled map."""
    return Cost(in_channels * out_channels, in_channels * out_channels + out_channels)


def halved(resolution: int, stride: int) -> int:
    """Output resolution of a convolution with padding k // 2 and odd k."""
    return -(-resolution // stride)


def choice_cost(space: SearchSpace, cell_index: int, choice: Choice, resolution: int) -> Cost:
    """Cost of one choice of a cell whose input has the given resolution in pixels."""
    cell, in_channels = space.cells[cell_index], space.in_channels(cell_index)
    out_resolution = halved(resolution, cell.stride)
    if choice.kind == "identity":
        return ZERO if space.keeps_shape(cell_index) else _conv_bn(in_channels, cell.out_channels, 1, out_resolution)
    expanded = in_channels * choice.expansion
    cost = (
        _conv_bn(in_channels, expanded, 1, resolution)
        + _conv_bn(expanded, expanded, choice.kernel_size, out_resolution, groups=expanded)
        + _conv_bn(expanded, cell.out_channels, 1, out_resolution)
    )
    if squeezed := squeeze_channels(choice, in_channels):
        cost += _biased_pointwise(expanded, squeezed) + _biased_pointwise(squeezed, expanded)
    return cost


def squeeze_channels(choice: Choice, in_channels: int) -> int:
    """Width of the squeeze-and-excitation bottleneck, int(cell input channels x r); 0: none."""
    return max(1, int(in_channels * choice.se_ratio)) if choice.se_ratio else 0


def cell_costs(space: SearchSpace) -> tuple[tuple[Cost, ...], ...]:
    """Cost of every choice of every cell: ``cell_costs(space)[cell_index][choice]``."""
    resolution = halved(space.input_resolution, space.stem.stride)
    costs = []
    for cell_index, cell in enumerate(space.cells):
        costs.append(tuple(choice_cost(space, cell_index, choice, resolution) for choice in cell.choices))
        resolution = halved(resolution, cell.stride)
    return tuple(costs)


def fixed_cost(space: SearchSpace) -> Cost:
    """Cost of the stem and the head, which every architecture has."""
    stem, head = space.stem, space.head
    stem_resolution = resolution = halved(space.input_resolution, stem.stride)
    cost = _conv_bn(3, stem.out_channels, 3, stem_resolution)
    if stem.separable_out_channels is not None:
        cost += _conv_bn(stem.out_channels, stem.out_channels, 3, stem_resolution, groups=stem.out_channels)
        cost += _conv_bn(stem.out_channels, stem.separable_out_channels, 1, stem_resolution)
    for cell in space.cells:
        resolution = halved(resolution, cell.stride)
    cost += _conv_bn(space.cells[-1].out_channels, head.out_channels, 1, resolution)
    return cost + _biased_pointwise(head.out_channels, space.num_classes)


def count(space: SearchSpace, architecture: Sequence[int]) -> Cost:
    """Multi-adds and parameters of an architecture of the space.

    Raises:
        InvalidArchitectureError: If it is none of this space.
    """
    checked = space.check(architecture)
    return sum((costs[choice] for costs, choice in zip(cell_costs(space), checked, strict=True)), fixed_cost(space))


def feasible_range(space: SearchSpace) -> tuple[Cost, Cost]:
    """Smallest and largest cost of the space, each figure by itself (they may be two architectures)."""
    ends = []
    for extreme in (min, max):
        total = fixed_cost(space)
        for costs in cell_costs(space):
            total += Cost(extreme(c.multi_adds for c in costs), extreme(c.params for c in costs))
        ends.append(total)
    return ends[0], ends[1]


def cost_functions(space: SearchSpace) -> dict[str, AdditiveFunction]:
    """Return multi-adds and parameters as functions of an architecture, by name."""
    fixed, per_cell = fixed_cost(space), cell_costs(space)
    return {
        name: AdditiveFunction(
            getattr(fixed, name),
            tuple(np.array([getattr(c, name) for c in cell], dtype=np.float64) for cell in per_cell),
        )
        for name in ("multi_adds", "params")
    }
