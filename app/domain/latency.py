"""A device's latencies: milliseconds of every choice of every cell, of which an architecture's latency is the sum.

Like multi-adds, but measured. That the sum holds is an assumption which a measured device checks on whole networks.
"""

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain.search_space import SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction

MAX_LATENCY_MS = 1e6
"""No part of a network takes longer than this; a thousand seconds are a mistake in the unit."""

_HEADER = ("cell", "choice", "latency_ms")
_BASE = "base"


def layout_digest(space: SearchSpace) -> str:
    """SHA-256 of what latencies depend on: everything of a space but its name, classes, segments and dropout.

    Searches on data sets of 10 and of 1,000 classes share their devices; the classifier is the smallest part of all.
    What a space leaves to a default is the same as if it said so.
    """
    cells = tuple(
        cell.model_copy(update={"keeps_shape": space.keeps_shape(cell_index)})
        for cell_index, cell in enumerate(space.cells)
    )
    resolved = {
        "cells": cells,
        "cell_activation": space.cell_activation or space.activation,
        "head": space.head.model_copy(update={"dropout": 0.0}),
    }
    return former_layout_digest(space.model_copy(update=resolved))


def former_layout_digest(space: SearchSpace) -> str:
    """Return the digest under which devices of earlier versions are stored: of the space as it was written."""
    unimportant = {"name", "num_classes", "default_segments"}
    return hashlib.sha256(space.model_dump_json(exclude=unimportant).encode()).hexdigest()


def layout_digests(space: SearchSpace) -> tuple[str, str]:
    """Return the digests under which a space's devices may be stored: today's and that of earlier versions."""
    return layout_digest(space), former_layout_digest(space)


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of the parts of a search space's networks on one device, for one image.

    Attributes:
        base_ms: Stem and head, which every network has.
        cells_ms: ``cells_ms[cell_index][choice]``.

    Raises:
        ValueError: If a latency is negative, not finite, or longer than ``MAX_LATENCY_MS``.
    """

    base_ms: float
    cells_ms: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        named = {_BASE: self.base_ms} | {
            f"cell {cell_index}, choice {choice}": ms
            for cell_index, cell in enumerate(self.cells_ms)
            for choice, ms in enumerate(cell)
        }
        for name, ms in named.items():
            if not (math.isfinite(ms) and 0 <= ms <= MAX_LATENCY_MS):
                raise ValueError(f"{name}: a latency is from 0 to {MAX_LATENCY_MS:,.0f} milliseconds, not {ms}")

    def check_fits(self, space: SearchSpace) -> None:
        """Check that there is a latency for every choice of every cell.

        Raises:
            ValueError: If one is missing, or there are more.
        """
        has, needs = tuple(map(len, self.cells_ms)), space.num_choices
        if len(has) != len(needs):
            raise ValueError(f"{space.name} has {len(needs)} cells, there are latencies of {len(has)}")
        for cell_index, (num, wanted) in enumerate(zip(has, needs, strict=True)):
            if num != wanted:
                raise ValueError(
                    f"cell {cell_index} of {space.name} has {wanted} choices, there are {num} latencies; give one each"
                )

    @property
    def function(self) -> AdditiveFunction:
        """The latency of an architecture in milliseconds, in arithmetic that gives the same sum in any order."""
        return AdditiveFunction(self.base_ms, tuple(np.array(cell) for cell in self.cells_ms))

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON data."""
        return {"base_ms": self.base_ms, "cells_ms": [list(cell) for cell in self.cells_ms]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LatencyTable":
        """Return the table of :meth:`to_dict`."""
        return cls(data["base_ms"], tuple(map(tuple, data["cells_ms"])))

    def to_csv(self) -> str:
        """Return the table as lines ``cell,choice,latency_ms``; the first one is ``base,,`` with stem and head."""
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerow((_BASE, "", repr(self.base_ms)))
        for cell_index, cell in enumerate(self.cells_ms):
            writer.writerows((cell_index, choice, repr(ms)) for choice, ms in enumerate(cell))
        return lines.getvalue()

    @classmethod
    def from_csv(cls, text: str, space: SearchSpace) -> "LatencyTable":
        """Return the table of CSV lines as :meth:`to_csv` writes them, in any order.

        A choice may also be given by its name, e.g. ``K3E6``. Lines may end in LF, CR LF or CR, and a byte order mark
        may come first, as spreadsheets write them.

        Raises:
            ValueError: If a line says nothing that is known, or a latency is missing or there twice.
        """
        rows = _rows(text)
        if not rows or tuple(field.strip() for field in rows[0]) != _HEADER:
            raise ValueError(f"the first line must be {','.join(_HEADER)}")
        found: dict[tuple[int, int] | str, float] = {}
        for number, row in enumerate(rows[1:], start=2):
            try:
                part, ms = _parsed(row, space)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if part in found:
                raise ValueError(f"line {number}: {', '.join(row[:2])} is given twice")
            found[part] = ms
        return _complete(found, space)


def _rows(text: str) -> list[list[str]]:
    """The fields of every line that is not blank."""
    try:
        # not splitlines(), for which ten other characters end a line too
        lines = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=None))
        return [row for row in lines if any(field.strip() for field in row)]
    except csv.Error as error:
        raise ValueError(f"these are no lines of text {','.join(_HEADER)} ({error})") from None


def _parsed(row: Sequence[str], space: SearchSpace) -> tuple[tuple[int, int] | str, float]:
    if len(row) != len(_HEADER):
        raise ValueError(f"three fields are needed ({','.join(_HEADER)}), not {len(row)}")
    cell, choice, given = (field.strip() for field in row)
    try:
        if "_" in given or not given.isascii():  # Python's digits, not those of a CSV file
            raise ValueError
        ms = float(given)
    except ValueError:
        raise ValueError(f"{given[:40]!r} is no number of milliseconds") from None
    if cell == _BASE:
        return _BASE, ms
    if not (cell.isdecimal() and cell.isascii() and len(cell) < 10 and int(cell) < space.num_cells):
        raise ValueError(f"{space.name} has the cells 0 to {space.num_cells - 1} and {_BASE}, not {cell[:40]!r}")
    labels = [c.label for c in space.cells[int(cell)].choices]
    numbers = [str(i) for i in range(len(labels))]
    for names in (numbers, labels):
        if choice in names:
            return (int(cell), names.index(choice)), ms
    raise ValueError(
        f"cell {cell} has the choices {', '.join(labels)} (or 0 to {len(labels) - 1}), not {choice[:40]!r}"
    )


def _complete(found: Mapping[tuple[int, int] | str, float], space: SearchSpace) -> LatencyTable:
    wanted: list[tuple[int, int] | str] = [_BASE]
    wanted += [(cell_index, choice) for cell_index, n in enumerate(space.num_choices) for choice in range(n)]
    if missing := [part for part in wanted if part not in found]:
        first = missing[0] if isinstance(missing[0], str) else "cell {}, choice {}".format(*missing[0])
        raise ValueError(f"{len(missing)} latencies of {space.name} are missing, the first is that of {first}")
    cells_ms = tuple(tuple(found[cell, choice] for choice in range(n)) for cell, n in enumerate(space.num_choices))
    return LatencyTable(found[_BASE], cells_ms)
