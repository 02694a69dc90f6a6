"""The subspace S_t of one round: the active cells L_t, and a super-cell of what earlier rounds preserved (section 3.3).

A subspace is a Cartesian product of *factors*: the super-cell first, if there is one, then the active cells in order.
A node's index is the mixed-radix number of its factor choices, the first factor most significant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.gray_code import num_bits, placed_bit_tables
from app.domain.hamming_graph import FactorFeatures
from app.domain.multi_adds import cost_functions
from app.domain.search_space import Architecture, SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction

MAX_SUBSPACE_SIZE = 2**24
"""Largest subspace whose table is stored, in rows (6^9 = 10,077,696 fits)."""


@dataclass(frozen=True)
class SuperCell:
    """The cells outside L_t, of which each preserved architecture's configuration is one choice.

    Attributes:
        cell_indices: The cells it covers, ascending.
        choices: Distinct configurations, each one choice index per covered cell; best first.
    """

    cell_indices: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise ValueError("a super-cell needs at least one choice, and each of them must be different")
        if any(len(choice) != len(self.cell_indices) for choice in self.choices):
            raise ValueError("each choice of a super-cell must give one choice index per covered cell")
        if not self.cell_indices or list(self.cell_indices) != sorted(set(self.cell_indices)):
            raise ValueError(f"a super-cell covers a non-empty ascending list of cells, not {list(self.cell_indices)}")


@dataclass(frozen=True)
class Subspace:
    """S_t: all architectures that can appear in round t.

    Attributes:
        space: The search space S.
        base: The architecture that gives the cells which are neither active nor in the super-cell.
        segment: L_t, the active cells, ascending.
        super_cell: What earlier rounds preserved; None in the first round.
    """

    space: SearchSpace
    base: Architecture
    segment: tuple[int, ...]
    super_cell: SuperCell | None = None

    def __post_init__(self) -> None:
        self.space.check(self.base)
        if list(self.segment) != sorted(set(self.segment)) or not self.segment:
            raise ValueError(f"a segment is a non-empty ascending list of cells, not {list(self.segment)}")
        self._check_cells()
        if self.super_cell and set(self.super_cell.cell_indices) & set(self.segment):
            raise ValueError(
                "the super-cell covers an active cell; preserved cells cannot be searched in the next round"
            )
        if self.size > MAX_SUBSPACE_SIZE:
            raise ValueError(
                f"a subspace may have up to {MAX_SUBSPACE_SIZE:,} architectures, this one has {self.size:,}"
            )

    def _check_cells(self) -> None:
        """Check that segment and super-cell name cells, and the super-cell choices, that the space has."""
        covered = self.super_cell.cell_indices if self.super_cell else ()
        if unknown := [i for i in (*self.segment, *covered) if not 0 <= i < self.space.num_cells]:
            raise ValueError(f"{self.space.name} has the cells 0 to {self.space.num_cells - 1}, not {unknown}")
        for configuration in self.super_cell.choices if self.super_cell else ():
            architecture = list(self.base)
            for cell_index, choice in zip(covered, configuration, strict=True):
                architecture[cell_index] = choice
            self.space.check(architecture)

    @classmethod
    def following(cls, space: SearchSpace, preserved: Sequence[Architecture], segment: Sequence[int]) -> "Subspace":
        """Return the subspace in which every preserved architecture, best first, is a choice of the super-cell.

        Where the next segment holds cells that set the preserved ones apart, equal choices are merged.
        """
        active = tuple(sorted(segment))
        covered = tuple(i for i in range(space.num_cells) if i not in active)
        choices = tuple(dict.fromkeys(tuple(m[i] for i in covered) for m in preserved))
        return cls(space, tuple(preserved[0]), active, SuperCell(covered, choices) if covered else None)

    def to_dict(self) -> dict[str, Any]:
        """Return the subspace as JSON data, without its space."""
        super_cell = self.super_cell
        return {
            "base": self.space.code(self.base),
            "segment": list(self.segment),
            "super_cell": super_cell
            and {"cell_indices": list(super_cell.cell_indices), "choices": [list(c) for c in super_cell.choices]},
        }

    @classmethod
    def from_dict(cls, space: SearchSpace, data: Mapping[str, Any]) -> "Subspace":
        """Return the subspace of :meth:`to_dict`.

        Raises:
            ValueError: If the data describe no subspace of this space.
        """
        given = data["super_cell"]
        super_cell = given and SuperCell(tuple(given["cell_indices"]), tuple(map(tuple, given["choices"])))
        return cls(space, space.parse_code(data["base"]), tuple(data["segment"]), super_cell)

    @cached_property
    def _factors(self) -> tuple[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], ...]:
        """Per factor: the cells it sets, and for each choice their choice indices."""
        factors = [(self.super_cell.cell_indices, self.super_cell.choices)] if self.super_cell else []
        for cell_index in self.segment:
            factors.append(((cell_index,), tuple((choice,) for choice in range(self.space.num_choices[cell_index]))))
        return tuple(factors)

    @cached_property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices of every factor."""
        return tuple(len(choices) for _, choices in self._factors)

    @property
    def size(self) -> int:
        """|S_t|, the number of nodes of the Hamming graph."""
        return math.prod(self.factor_sizes)

    def architecture(self, index: int) -> Architecture:
        """Return the architecture of a node.

        Raises:
            IndexError: If the index is not in [0, size).
        """
        if not 0 <= index < self.size:
            raise IndexError(f"this subspace has the indices 0 to {self.size - 1}, not {index}")
        return tuple(self.architectures(np.array([index]))[0].tolist())

    def architectures(self, index_N: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the choice indices of many nodes: uint8 [N, L]."""
        index = np.asarray(index_N, dtype=np.int64)
        out_NL = np.tile(np.array(self.base, dtype=np.uint8), (index.size, 1))
        for (cells, choices), digit_N in zip(self._factors, np.unravel_index(index, self.factor_sizes), strict=True):
            out_NL[:, cells] = np.array(choices, dtype=np.uint8)[digit_N]
        return out_NL

    def index(self, architecture: Sequence[int]) -> int:
        """Return the node of an architecture, the inverse of :meth:`architecture`.

        Raises:
            ValueError: If the architecture is not in this subspace.
        """
        return int(self.indices([self.space.check(architecture)])[0])

    def indices(self, choices_NL: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the nodes of many architectures, the inverse of :meth:`architectures`: int64 [N].

        Args:
            choices_NL: Choice indices of architectures of the search space.

        Raises:
            ValueError: If an architecture is not in this subspace.
        """
        choices_NL = np.asarray(choices_NL, dtype=np.uint8).reshape(-1, self.space.num_cells)
        digits = []
        for cells, configurations in self._factors:
            matches_NC = (choices_NL[:, None, cells] == np.array(configurations, dtype=np.uint8)).all(2)
            self._require(choices_NL, matches_NC.any(1), "is not in this round's subspace")
            digits.append(matches_NC.argmax(1))
        index_N = np.asarray(np.ravel_multi_index(digits, self.factor_sizes), dtype=np.int64)
        is_same_N = (self.architectures(index_N) == choices_NL).all(1)
        self._require(choices_NL, is_same_N, "is not in this round's subspace: its fixed cells differ")
        return index_N

    def _require(self, choices_NL: npt.NDArray[np.uint8], holds_N: npt.NDArray[np.bool_], problem: str) -> None:
        if not holds_N.all():
            first = choices_NL[int(np.argmin(holds_N))].tolist()
            raise ValueError(f"{self.space.code(first)} {problem}")

    def __contains__(self, architecture: Architecture) -> bool:
        """Whether an architecture is one of this subspace's nodes."""
        try:
            self.index(architecture)
        except ValueError:
            return False
        return True

    def codes(self, index_N: npt.ArrayLike) -> list[str]:
        """Return the codes of many nodes."""
        return codes_of(self.architectures(index_N))

    def costs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return multi-adds and parameters of the target network of every node: two int64 [size]."""
        functions = cost_functions(self.space)
        multi_adds, params = (self.sums(functions[name]).astype(np.int64) for name in ("multi_adds", "params"))
        return multi_adds, params

    def sums(self, function: AdditiveFunction) -> npt.NDArray[np.float64]:
        """Return the value of a function that is a sum over cells at every node: float64 [size], exact."""
        varied = {cell_index for cells, _ in self._factors for cell_index in cells}
        total = np.array(function.constant)
        for cell_index, choice in enumerate(self.base):
            if cell_index not in varied:
                total = total + function.tables[cell_index][choice]
        for cells, choices in self._factors:
            per_choice = [sum(function.tables[i][c] for i, c in zip(cells, choice, strict=True)) for choice in choices]
            total = np.add.outer(total, np.array(per_choice))
        return total.ravel()

    def factor_features(self) -> FactorFeatures:
        """Return the nodes' Gray bits as a sum over factors: a constant and one table per factor."""
        placed = placed_bit_tables(self.space)
        constant = np.zeros(num_bits(self.space), dtype=np.float32)
        varied = {cell_index for cells, _ in self._factors for cell_index in cells}
        for cell_index, choice in enumerate(self.base):
            if cell_index not in varied:
                constant += placed[cell_index][choice]
        factor_tables = [
            np.stack(
                [
                    sum((placed[i][c] for i, c in zip(cells, configuration, strict=True)), np.zeros_like(constant))
                    for configuration in choices
                ]
            )
            for cells, choices in self._factors
        ]
        return FactorFeatures(constant=constant, tables=tuple(factor_tables))


def codes_of(choices_NL: npt.NDArray[np.uint8]) -> list[str]:
    """Return the codes of architectures given as choice indices, uint8 [N, L]."""
    return [row.tobytes().decode() for row in choices_NL + np.uint8(ord("0"))]


def choices_of(codes: Sequence[str], num_cells: int) -> npt.NDArray[np.uint8]:
    """Return the choice indices of codes, the inverse of :func:`codes_of`: uint8 [N, L]."""
    return np.frombuffer("".join(codes).encode(), dtype=np.uint8).reshape(-1, num_cells) - np.uint8(ord("0"))
