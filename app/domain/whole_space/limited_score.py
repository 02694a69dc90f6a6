"""One query of a constrained enumeration, reduced to what matters: limits that bind, choices that fit, and bounds.

Legend: C limited costs, L cells, n choices of a cell (of the cell that has most, in padded arrays).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.domain.whole_space.additive_function import AdditiveFunction, Float64Array
from app.domain.whole_space.budget_bound import BudgetBound
from app.domain.whole_space.lagrangian import multipliers

NUM_BINS = 4096
_MOST_HALVINGS = 12

IntpArray = NDArray[np.intp]


@dataclass(frozen=True)
class LimitedScore:
    """The highest additive score under limits, as the search sees it.

    Attributes:
        constant: The score's.
        scores: Per cell, float64 [n].
        costs: Per cell, float64 [C, n] above the cell's smallest.
        slack_C: float64, the limits above the smallest cost of the space.
        kept: Per cell, the original indices of its choices.
        bounds: Upper bounds on what undecided cells add.
    """

    constant: float
    scores: tuple[Float64Array, ...]
    costs: tuple[Float64Array, ...]
    slack_C: Float64Array
    kept: tuple[IntpArray, ...]
    bounds: tuple[BudgetBound, ...]


@dataclass(frozen=True, eq=False)
class LimitableScore:
    """What queries of the same score and costs have in common; bounds on single costs are kept once built.

    Attributes:
        score: The score.
        score_Ln: Its tables, -inf where a cell has no such choice.
        costs: The costs.
        above_CLn: Their tables above each cell's smallest entry, 0 where a cell has no such choice.
    """

    score: AdditiveFunction
    score_Ln: Float64Array
    costs: tuple[AdditiveFunction, ...]
    above_CLn: Float64Array
    _single_bounds: dict[tuple[int, int], BudgetBound] = field(default_factory=dict)

    @classmethod
    def of(cls, score: AdditiveFunction, costs: tuple[AdditiveFunction, ...]) -> "LimitableScore":
        """Lay out the tables."""
        most = max(score.factor_sizes)
        above_CLn = np.zeros((len(costs), len(score.tables), most))
        score_Ln = np.full((len(score.tables), most), -math.inf)
        for cell_index, table in enumerate(score.tables):
            score_Ln[cell_index, : len(table)] = table
            for number, cost in enumerate(costs):
                own = cost.tables[cell_index]
                above_CLn[number, cell_index, : len(own)] = own - own.min()
        return cls(score, score_Ln, costs, above_CLn)

    def under(self, limits: Sequence[float | None]) -> LimitedScore | None:
        """Return the score under these limits, or None if one is below the smallest cost of the space."""
        slack = [_slack(cost, limit) for cost, limit in zip(self.costs, limits, strict=True)]
        if any(above is not None and above < 0 for above in slack):
            return None
        binding = [number for number, above in enumerate(slack) if above is not None]
        slack_C = np.array([above for above in slack if above is not None])
        fits_Ln = (self.above_CLn[binding] <= slack_C[:, None, None]).all(0) & np.isfinite(self.score_Ln)
        if not fits_Ln.any(1).all():
            return None
        # A choice that fits no more takes its cost with it, and a limit may then bind no more.
        above_CLn = np.where(fits_Ln, self.above_CLn[binding], 0.0)
        still = np.flatnonzero(above_CLn.max(2).sum(1) > slack_C)
        binding, slack_C, above_CLn = [binding[row] for row in still], slack_C[still], above_CLn[still]
        kept = tuple(np.flatnonzero(fits_n) for fits_n in fits_Ln)
        scores = tuple(score_n[rows] for score_n, rows in zip(self.score_Ln, kept, strict=True))
        costs = tuple(above_CLn[:, cell_index, rows] for cell_index, rows in enumerate(kept))
        bounds = [self._single_bound(row, number, slack_C) for row, number in enumerate(binding)]
        if len(binding) != 1:
            score_Ln = np.where(fits_Ln, self.score_Ln, -math.inf)
            bounds += _surrogate(scores, costs, slack_C, multipliers(score_Ln, above_CLn, slack_C))
        return LimitedScore(self.score.constant, scores, costs, slack_C, kept, tuple(bounds))

    def _single_bound(self, row: int, number: int, slack_C: Float64Array) -> BudgetBound:
        """The bound by one limit alone, at the finest of a few resolutions, each half as fine as the next."""
        largest = float(self.above_CLn[number].max(1).sum())
        halvings = min(int(math.log2(largest / slack_C[row])), _MOST_HALVINGS) if slack_C[row] > 0 else _MOST_HALVINGS
        key = (number, halvings)
        if key not in self._single_bounds:
            tables = [self.above_CLn[number, None, cell, :n] for cell, n in enumerate(self.score.factor_sizes)]
            largest_1 = np.array([math.ldexp(largest, -halvings)])
            self._single_bounds[key] = BudgetBound.build(self.score.tables, tables, largest_1, np.ones(1), NUM_BINS)
        single = self._single_bounds[key]
        weights_C = np.zeros(len(slack_C))
        weights_C[row] = single.weights_C[0]
        return BudgetBound(weights_C, single.suffix_LB)


def _slack(cost: AdditiveFunction, limit: float | None) -> float | None:
    """The limit above the smallest cost; None if it excludes nothing.

    Costs are multiples of their grid, so the limit can be rounded down to it, and differences are then exact.
    """
    if limit is None or limit >= cost.maximum:
        return None
    if limit < cost.minimum:
        return -1.0
    return math.floor(limit / cost.grid) * cost.grid - cost.minimum


def _surrogate(
    scores: Sequence[Float64Array],
    costs: Sequence[Float64Array],
    slack_C: Float64Array,
    multiplier_C: Float64Array,
) -> list[BudgetBound]:
    """The bound by the weighted sum of the limits, unless it is that of one alone; without any limit if C = 0."""
    if not len(slack_C):
        return [BudgetBound.build(scores, costs, slack_C, slack_C, 2)]
    if np.count_nonzero(multiplier_C) < 2:
        return []
    return [BudgetBound.build(scores, costs, slack_C, multiplier_C, NUM_BINS)]
