"""Upper bounds of what the undecided cells can still add to a score, given what is left of the limits.

For one limit the bound is dynamic programming over the remaining budget in bins (a multiple-choice knapsack, costs
rounded down and budgets up, so it never bounds too low). For several limits at once each is bounded by itself, and so
is their weighted sum (the surrogate relaxation), weighted by the multipliers of the Lagrangian dual. Legend: C limited
costs, L cells, n choices of a cell, N partial architectures, B bins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.whole_space.additive_function import Float64Array

# Rounding to bins leaves this much, in bins, for the rounding of float64 sums: 2^-20 >> 2^13 * 2^-50.
_BIN_MARGIN = 2.0**-20
_SMALLEST_BUDGET = 2.0**-40


@dataclass(frozen=True)
class BudgetBound:
    """max of the remaining cells' scores under one weighted sum of the limits.

    Attributes:
        weights_C: float64, how many bins one unit of each cost is.
        suffix_LB: For every number of decided cells (0 to L), float64 [B]: the best score of the other cells with
            at most so many bins; -inf if they take more in any case.
    """

    weights_C: Float64Array
    suffix_LB: tuple[Float64Array, ...]

    @classmethod
    def build(
        cls,
        scores: Sequence[Float64Array],
        costs: Sequence[Float64Array],
        slack_C: Float64Array,
        weights_C: Float64Array,
        num_bins: int,
    ) -> "BudgetBound":
        """Run the dynamic programme, last cell first.

        Args:
            scores: Per cell, float64 [n].
            costs: Per cell, float64 [C, n], each above the cell's smallest.
            slack_C: The limits above the smallest cost of the space.
            weights_C: The weight of each cost in the sum, not all zero.
            num_bins: Length of the tables.
        """
        # A budget of next to nothing need not be told apart in bins, and its inverse would overflow.
        largest = sum(float((weights_C @ cost_Cn).max()) for cost_Cn in costs)
        total = max(float(weights_C @ slack_C), largest * _SMALLEST_BUDGET)
        scale_C = weights_C * ((num_bins - 2) / total) if total > 0 else weights_C
        suffix_B = np.zeros(num_bins)
        tables = [suffix_B]
        for score_n, cost_Cn in zip(reversed(scores), reversed(costs), strict=True):
            shift_n = np.floor(np.minimum(scale_C @ cost_Cn, num_bins) - _BIN_MARGIN).clip(0).astype(np.int64)
            best_B = np.full(num_bins, -math.inf)
            for score, shift in zip(score_n.tolist(), shift_n.tolist(), strict=True):
                np.maximum(best_B[shift:], suffix_B[: num_bins - shift] + score, out=best_B[shift:])
            suffix_B = best_B
            tables.append(suffix_B)
        return cls(scale_C, tuple(reversed(tables)))

    def of(self, num_decided: int, remaining_CN: Float64Array) -> Float64Array:
        """Return float64 [N], the bound on what the cells from ``num_decided`` on can add."""
        bin_N = self.weights_C @ remaining_CN
        bin_N += 1.0 + _BIN_MARGIN
        return self.suffix_LB[num_decided].take(bin_N.astype(np.intp), mode="clip")
