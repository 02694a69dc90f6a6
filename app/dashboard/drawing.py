"""Draws an architecture as a row of its cells.

A block is as high as the cell has channels, as wide as it expands them, and as dark as its kernel is large; a notch
before it halves the resolution, an arc over it is a residual connection.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.schemas.architecture_cells import CellView

_SLOT, _STRIDE_GAP, _MARGIN = 54.0, 16.0, 8.0
_MIN_WIDTH, _MAX_WIDTH = 28.0, 46.0
_MIN_HEIGHT, _MAX_HEIGHT = 34.0, 96.0
_TOP, _LABELS = 26.0, 44.0


@dataclass(frozen=True)
class Block:
    """A drawn cell.

    Attributes:
        cell: What it shows.
        x: Left edge, in the drawing's units.
        y: Upper edge.
        width: Grows with the expansion.
        height: Grows with the output channels.
        shade: 0 for the identity, then 1, 2, 3 for kernels of 3, 5, 7 and more.
        halves: Whether it halves the resolution.
        marked: Whether it is one of those to look at.
    """

    cell: CellView
    x: float
    y: float
    width: float
    height: float
    shade: int
    halves: bool
    marked: bool

    @property
    def middle(self) -> float:
        """The x of its middle."""
        return self.x + self.width / 2

    @property
    def title(self) -> str:
        """What it is, in words."""
        cell = self.cell
        operator = "identity" if cell.kernel_size is None else f"kernel {cell.kernel_size}, expansion {cell.expansion}"
        stride = ", stride 2" if self.halves else ""
        return (
            f"Cell {cell.cell_index}: {operator}{stride}, {cell.in_channels} to {cell.out_channels} channels at "
            f"{cell.resolution} pixels, {cell.multi_adds / 1e6:.2f}M multi-adds"
        )


@dataclass(frozen=True)
class Drawing:
    """An architecture's picture.

    Attributes:
        blocks: Its cells, front to back.
        width: Of the whole, in its own units.
        height: Of the whole.
        base: The y on which the blocks stand.
        description: The whole in one sentence.
    """

    blocks: tuple[Block, ...]
    width: float
    height: float
    base: float
    description: str


def draw(cells: Sequence[CellView], marked: Iterable[int] = ()) -> Drawing:
    """Return the picture of an architecture's cells; those whose indices are given are marked."""
    marked_cells = set(marked)
    widest = max(cell.out_channels for cell in cells)
    base, x = _TOP + _MAX_HEIGHT, _MARGIN
    blocks: list[Block] = []
    for cell in cells:
        halves = cell.stride == 2
        x += _STRIDE_GAP if halves and blocks else 0.0
        width = _MIN_WIDTH + (_MAX_WIDTH - _MIN_WIDTH) * min(cell.expansion or 0, 6) / 6
        height = _MIN_HEIGHT + (_MAX_HEIGHT - _MIN_HEIGHT) * math.sqrt(cell.out_channels / widest)
        left = x + (_SLOT - width) / 2
        shade = 0 if cell.kernel_size is None else min(3, max(1, (cell.kernel_size - 1) // 2))
        blocks.append(Block(cell, left, base - height, width, height, shade, halves, cell.cell_index in marked_cells))
        x += _SLOT
    readable = " ".join(cell.label for cell in cells)
    return Drawing(
        blocks=tuple(blocks),
        width=x + _MARGIN,
        height=base + _LABELS,
        base=base,
        description=f"{len(cells)} cells, front to back: {readable}",
    )
