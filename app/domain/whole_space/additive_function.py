"""Functions of an architecture that are a constant plus one term per cell: the additive score, and every cost.

Legend: N architectures, L cells, n_l choices of cell l.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array = NDArray[np.float64]

_SIGNIFICANT_BITS = 52


@dataclass(frozen=True, eq=False)
class AdditiveFunction:
    """``constant + sum_l tables[l][choice_l]`` over a product space, in arithmetic that does not depend on the order.

    All entries are rounded, once, to multiples of one power of two that is so small against the largest possible sum
    that it changes no more than adding the terms in another order would (2^-52 of it), and so large that every sum of
    entries is exact in float64. Integer entries that add up to less than 2^52 stay as they are. So partial sums can be
    compared exactly, equal scores are equal, and a limit that is just met is met.

    Attributes:
        constant: What every architecture has.
        tables: One float64 [n_l] per cell.
        grid: The power of two that every value is a multiple of.

    Raises:
        ValueError: If there is no cell, a cell has no choice, or an entry is not finite.
    """

    constant: float
    tables: tuple[Float64Array, ...]
    grid: float = field(init=False)

    def __post_init__(self) -> None:
        tables = tuple(np.array(table, dtype=np.float64) for table in self.tables)
        if not tables or any(table.ndim != 1 or not table.size for table in tables):
            raise ValueError("an additive function needs one vector per cell, with one number per choice")
        if not math.isfinite(self.constant) or not all(np.isfinite(table).all() for table in tables):
            raise ValueError("the constant and every entry of an additive function must be finite numbers")
        constant, grid = self.constant, 0.0
        # Rounding can lift the largest sum to the next power of two, and then the grid is twice as wide.
        while (wanted := _grid(abs(constant) + sum(float(np.abs(table).max()) for table in tables))) != grid:
            grid = wanted
            constant = float(np.rint(constant / grid) * grid)
            tables = tuple(np.rint(table / grid) * grid for table in tables)
        object.__setattr__(self, "constant", constant)
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "grid", grid)

    @classmethod
    def from_entries(cls, entries: Float64Array, factor_sizes: Sequence[int]) -> "AdditiveFunction":
        """Return the function of :attr:`entries`.

        Raises:
            ValueError: If there are not as many entries as the sizes say.
        """
        if entries.shape != (1 + sum(factor_sizes),):
            raise ValueError(f"{1 + sum(factor_sizes)} entries were expected, got an array of shape {entries.shape}")
        return cls(float(entries[0]), tuple(np.split(entries[1:], np.cumsum(factor_sizes)[:-1])))

    @property
    def entries(self) -> Float64Array:
        """float64 [1 + n_0 + ... + n_(L-1)]: the constant, then all tables."""
        return np.concatenate([[self.constant], *self.tables])

    @cached_property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices of every cell."""
        return tuple(len(table) for table in self.tables)

    @cached_property
    def minimum(self) -> float:
        """The smallest value over the whole space."""
        return self.constant + sum(float(table.min()) for table in self.tables)

    @cached_property
    def maximum(self) -> float:
        """The largest value over the whole space."""
        return self.constant + sum(float(table.max()) for table in self.tables)

    @property
    def _slack(self) -> float:
        """How far rounding to the grid may have moved a sum: half a step per entry."""
        return self.grid * (len(self.tables) + 1) / 2

    def with_room(self, limit: float) -> float:
        """Return the limit that a sum meets exactly if it met the given one before entries were rounded.

        Decimal entries are no binary fractions: 1.5 and eight times 0.1 make 2.3000000000000114 here.
        """
        return limit + self._slack

    def shortest(self, value: float) -> float:
        """Return the number of fewest decimals that a sum may have been before entries were rounded."""
        candidates = (float(f"{value:.{digits}g}") for digits in (6, 9, 12, 15))
        return next((short for short in candidates if abs(short - value) <= self._slack), value)

    @property
    def shortest_range(self) -> tuple[float, float]:
        """The smallest and the largest value over the whole space, as :meth:`shortest` shows them."""
        return self.shortest(self.minimum), self.shortest(self.maximum)

    def of(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], the values of architectures given as choice indices."""
        choices = np.asarray(choices_NL)
        total_N = np.full(len(choices), self.constant)
        for cell_index, table in enumerate(self.tables):
            total_N += table[choices[:, cell_index]]
        return total_N

    def whole_space(self) -> Float64Array:
        """Return float64 [n_0 * ... * n_(L-1)], the values of all architectures, the first cell most significant."""
        total = np.array(self.constant)
        for table in self.tables:
            total = np.add.outer(total, table)
        return total.ravel()


def _grid(largest: float) -> float:
    """A power of two of which ``largest`` is at most 2^52 multiples."""
    if largest == 0:
        return 1.0
    return math.ldexp(1.0, max(math.frexp(largest)[1] - _SIGNIFICANT_BITS, -1021))
