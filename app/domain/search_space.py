"""Search spaces as data: a chain of cells, each with a few choices (section 3.2 of the paper).

An architecture M is a tuple with one choice index per cell. Its ``code`` writes one digit per cell.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.domain.names import SPACE_NAME_PATTERN
from app.domain.strict_numbers import check_no_boolean

Architecture = tuple[int, ...]
"""M: the choice index of every cell, front to back."""

Activation = Literal["relu", "relu6", "swish"]

MAX_CHOICES = 10
"""A code has one decimal digit per cell."""

Channels = Annotated[int, Field(ge=1, le=4096)]


class InvalidArchitectureError(ValueError):
    """A code or tuple that names no architecture of the space."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        if bool not in get_args(cls.model_fields[info.field_name].annotation):
            check_no_boolean(value)
        return value


class Choice(_Value):
    """One operator of a cell: an inverted residual block, or the identity.

    Where the shape changes, the identity is a 1x1 convolution with the cell's stride and BN.
    """

    kind: Literal["inverted_residual", "identity"] = "inverted_residual"
    kernel_size: Literal[1, 3, 5, 7, 9, 11] = 3
    expansion: int = Field(default=3, ge=1, le=16)
    se_ratio: float = Field(
        default=0.0, ge=0.0, le=4.0, description="Squeeze width over the cell's input channels; 0: none."
    )

    @property
    def label(self) -> str:
        """The readable name, e.g. ``K3E6``; ``ID`` for the identity."""
        return "ID" if self.kind == "identity" else f"K{self.kernel_size}E{self.expansion}"


class Cell(_Value):
    """Layer l of the chain: its shape, and the operators among which the search chooses."""

    out_channels: Channels
    stride: Literal[1, 2] = 1
    choices: tuple[Choice, ...] = Field(min_length=1, max_length=MAX_CHOICES)
    keeps_shape: bool | None = Field(
        default=None,
        description="Whether the cell has a residual connection; by default: stride 1 and as many channels out as in.",
    )

    @model_validator(mode="after")
    def _distinct_choices(self) -> Self:
        # an identity is one and the same whatever kernel it names
        operators = {"identity" if choice.kind == "identity" else choice for choice in self.choices}
        if len(operators) != len(self.choices):
            raise ValueError("a cell names the same choice twice; each of its choices must be different")
        return self


class Stem(_Value):
    """The layers before the first cell: Conv3x3, and optionally a depthwise 3x3 with a linear 1x1."""

    out_channels: Channels = 32
    stride: Literal[1, 2] = 2
    separable_out_channels: Channels | None = None

    @property
    def final_channels(self) -> int:
        """Channels that reach the first cell."""
        return self.separable_out_channels or self.out_channels


class Head(_Value):
    """1x1 convolution, BN, activation, global average pool, dropout, fully connected layer."""

    out_channels: Channels = 1280
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class SearchSpace(_Value):
    """The search space S: everything that is fixed, and the choices of every cell."""

    name: str = Field(min_length=1, max_length=64, pattern=SPACE_NAME_PATTERN)
    input_resolution: int = Field(ge=4, le=512)
    num_classes: int = Field(ge=2, le=100_000)
    activation: Activation = "relu6"
    cell_activation: Activation | None = Field(
        default=None, description="Activation inside the cells; by default as everywhere."
    )
    stem: Stem
    cells: tuple[Cell, ...] = Field(min_length=1, max_length=64)
    head: Head
    default_segments: tuple[tuple[int, ...], ...] | None = Field(
        default=None, description="The segments a search takes when it names none; by default up to 7 cells each."
    )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.default_segments is not None:
            check_segments(self.default_segments, len(self.cells))
        for cell_index, cell in enumerate(self.cells):
            if cell.keeps_shape and not (cell.stride == 1 and self.in_channels(cell_index) == cell.out_channels):
                raise ValueError(
                    f"cell {cell_index} cannot keep its shape: it has stride {cell.stride} and takes "
                    f"{self.in_channels(cell_index)} channels to {cell.out_channels}"
                )
        if self.size < 2:
            raise ValueError("the search space holds one architecture only; give at least one cell two choices")
        return self

    @property
    def num_cells(self) -> int:
        """L, the number of cells."""
        return len(self.cells)

    @property
    def num_choices(self) -> tuple[int, ...]:
        """Number of choices of every cell."""
        return tuple(len(cell.choices) for cell in self.cells)

    @property
    def size(self) -> int:
        """|S|, the number of architectures (exact, of any size)."""
        size = 1
        for n in self.num_choices:
            size *= n
        return size

    @property
    def segments(self) -> tuple[tuple[int, ...], ...]:
        """The default segments L_t (section 3.3): the space's own, or runs of up to 7 cells."""
        if self.default_segments is not None:
            return self.default_segments
        num_segments = -(-self.num_cells // 7)
        bounds = [round(i * self.num_cells / num_segments) for i in range(num_segments + 1)]
        return tuple(tuple(range(a, b)) for a, b in pairwise(bounds))

    def in_channels(self, cell_index: int) -> int:
        """Channels that enter a cell."""
        return self.cells[cell_index - 1].out_channels if cell_index else self.stem.final_channels

    def keeps_shape(self, cell_index: int) -> bool:
        """Whether a cell has a residual connection: stride 1 and in = out channels, unless the space says otherwise."""
        cell = self.cells[cell_index]
        if cell.keeps_shape is not None:
            return cell.keeps_shape
        return cell.stride == 1 and self.in_channels(cell_index) == cell.out_channels

    def check(self, architecture: Sequence[int]) -> Architecture:
        """Return the architecture as a tuple.

        Raises:
            InvalidArchitectureError: If it has not one valid choice index per cell.
        """
        if len(architecture) != self.num_cells:
            raise InvalidArchitectureError(
                f"an architecture of {self.name} has {self.num_cells} cells, this one has {len(architecture)}"
            )
        for cell_index, (choice, n) in enumerate(zip(architecture, self.num_choices, strict=True)):
            if not 0 <= choice < n:
                raise InvalidArchitectureError(
                    f"cell {cell_index} of {self.name} has the choices 0 to {n - 1}, not {choice}"
                )
        return tuple(int(choice) for choice in architecture)

    def parse_code(self, code: str) -> Architecture:
        """Return the architecture of a code, one digit per cell, e.g. ``"3000000000000000000"``.

        Raises:
            InvalidArchitectureError: If the code names no architecture of this space.
        """
        if not (code.isascii() and code.isdigit()):
            raise InvalidArchitectureError(f"a code is one digit per cell ({self.num_cells} digits), not {code[:80]!r}")
        return self.check([int(digit) for digit in code])

    def code(self, architecture: Sequence[int]) -> str:
        """Return the code: one digit per cell, the index of its choice."""
        return "".join(map(str, architecture))

    def readable(self, architecture: Sequence[int]) -> str:
        """Return the choices' names, e.g. ``K3E3 K5E6 ...``."""
        return " ".join([labels[choice] for labels, choice in zip(self._labels, architecture, strict=True)])

    @cached_property
    def _labels(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(choice.label for choice in cell.choices) for cell in self.cells)

    def proxy(
        self, *, resolution: int | None = None, width: float = 1.0, num_classes: int | None = None
    ) -> "SearchSpace":
        """Return the space of the networks that are really trained in a search.

        The choices and the residual connections are the target's; resolution, channels and classes may differ.

        Args:
            resolution: Input resolution in pixels; None keeps the target's.
            width: Multiplier of every channel number, rounded up to a multiple of 8 (which vector units want).
            num_classes: Classes of the data at hand; None keeps the target's.
        """

        def scaled(channels: int) -> int:
            return channels if width == 1.0 else -(-int(channels * width) // 8) * 8 or 8

        stem = self.stem.model_copy(
            update={
                "out_channels": scaled(self.stem.out_channels),
                "separable_out_channels": self.stem.separable_out_channels and scaled(self.stem.separable_out_channels),
            }
        )
        cells = tuple(
            cell.model_copy(
                update={"out_channels": scaled(cell.out_channels), "keeps_shape": self.keeps_shape(cell_index)}
            )
            for cell_index, cell in enumerate(self.cells)
        )
        return self.model_copy(
            update={
                "input_resolution": resolution or self.input_resolution,
                "num_classes": num_classes or self.num_classes,
                "stem": stem,
                "cells": cells,
                "head": self.head.model_copy(update={"out_channels": scaled(self.head.out_channels)}),
            }
        )


def check_segments(segments: Sequence[Sequence[int]], num_cells: int) -> None:
    """Check that segments partition the cells 0 to num_cells - 1.

    Raises:
        ValueError: If a segment is empty, or the segments overlap, miss cells or name cells that do not exist.
    """
    seen: set[int] = set()
    for position, segment in enumerate(segments):
        if not segment:
            raise ValueError(f"segment {position} is empty; each segment needs at least one cell")
        for cell_index in segment:
            if not 0 <= cell_index < num_cells:
                raise ValueError(
                    f"segment {position} names cell {cell_index}; the space has the cells 0 to {num_cells - 1}"
                )
            if cell_index in seen:
                raise ValueError(f"the segments overlap: cell {cell_index} is named twice; name every cell once")
            seen.add(cell_index)
    if missing := sorted(set(range(num_cells)) - seen):
        raise ValueError(f"the segments miss the cells {missing}; together they must name every cell once")


def _fairnas(name: str, *, se_ratio: float = 0.0, cell_activation: Activation | None = None) -> SearchSpace:
    choices = tuple(Choice(kernel_size=k, expansion=e, se_ratio=se_ratio) for e in (3, 6) for k in (3, 5, 7))
    channels = [32] * 2 + [40] * 4 + [80] * 4 + [96] * 4 + [192] * 4 + [320]
    strides: list[Literal[1, 2]] = [2, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    cells = tuple(Cell(out_channels=c, stride=s, choices=choices) for c, s in zip(channels, strides, strict=True))
    return SearchSpace(
        name=name,
        input_resolution=224,
        num_classes=1000,
        activation="relu6",
        cell_activation=cell_activation,
        stem=Stem(out_channels=32, stride=2, separable_out_channels=16),
        cells=cells,
        head=Head(out_channels=1280, dropout=0.2),
        default_segments=(tuple(range(7)), tuple(range(7, 13)), tuple(range(13, 19))),
    )


def _nas_bench_macro() -> SearchSpace:
    choices = (
        Choice(kind="identity", kernel_size=1, expansion=1),
        Choice(kernel_size=3, expansion=3),
        Choice(kernel_size=5, expansion=6),
    )
    cells = tuple(
        Cell(out_channels=channels, stride=2 if first else 1, choices=choices)
        for channels, length in ((64, 2), (128, 3), (256, 3))
        for first in [True] + [False] * (length - 1)
    )
    return SearchSpace(
        name="nas-bench-macro",
        input_resolution=32,
        num_classes=10,
        activation="relu",
        stem=Stem(out_channels=32, stride=1),
        cells=cells,
        head=Head(out_channels=1280),
        default_segments=(tuple(range(8)),),
    )


PRESETS: dict[str, SearchSpace] = {
    space.name: space
    for space in (
        _fairnas("fairnas"),
        _fairnas("fairnas-se", se_ratio=1.0, cell_activation="swish"),
        _nas_bench_macro(),
    )
}
"""The search spaces that a request can name."""


def preset(name: str) -> SearchSpace:
    """Return a preset search space.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no search space {name!r}; there are {', '.join(sorted(PRESETS))}, or give your own")
    return PRESETS[name]
