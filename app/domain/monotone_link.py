"""Monotone links between a predictor's score and accuracy, and the ranks of accuracies as labels.

Accuracy saturates: near the top of a space much effort buys little. A monotone link on a score keeps the ranking and
takes the saturation out, so that simple scores suffice. Legend: N pairs, K knots.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtri
from scipy.stats import rankdata

Float64Array = NDArray[np.float64]

_PAIRS_PER_KNOT = 8
_MAX_KNOTS = 32
_MIN_RELATIVE_SLOPE = 0.02
_NUM_FOLDS = 4


def normal_scores(value_N: Float64Array) -> Float64Array:
    """Return float64 [N]: values replaced by the normal quantiles of their ranks; equal values share the mean rank."""
    return np.asarray(ndtri((rankdata(value_N) - 0.5) / len(value_N)), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class MonotoneLink:
    """A piecewise linear, increasing map, bounded by ``lowest`` and ``highest``, which it approaches beyond the knots.

    It increases strictly, so that it keeps every ranking, also above the best accuracy seen; only a link fitted to
    equal values is constant.

    Attributes:
        scores_K: float64, increasing.
        values_K: float64, not decreasing.
        lowest: Bound below.
        highest: Bound above.
    """

    scores_K: Float64Array
    values_K: Float64Array
    lowest: float = 0.0
    highest: float = 1.0

    @classmethod
    def fit(
        cls, score_N: Float64Array, value_N: Float64Array, lowest: float = 0.0, highest: float = 1.0
    ) -> "MonotoneLink":
        """Fit the expected value at a score: isotonic regression, averaged over groups of equal size, joined by lines.

        Args:
            score_N: Scores of the pairs, best left-out ones: then the link also undoes a predictor's overconfidence.
            value_N: What they should map to, within the bounds.
            lowest: Bound below.
            highest: Bound above.
        """
        order_N = np.lexsort((value_N, score_N))
        score_N, value_N = np.asarray(score_N)[order_N], np.asarray(value_N)[order_N]
        fitted_N = isotonic_regression(_tied_means(score_N, value_N)).x
        num_groups = int(np.clip(len(score_N) // _PAIRS_PER_KNOT, 2, _MAX_KNOTS))
        groups = [group for group in np.array_split(np.arange(len(score_N)), num_groups) if len(group)]
        scores_K = np.array([score_N[group].mean() for group in groups])
        values_K = np.array([fitted_N[group].mean() for group in groups])
        keep_K = np.append(True, np.diff(scores_K) > 1e-9 * max(np.ptp(score_N), 1e-300))
        # scores that say nothing of the values leave one level; their order is still better than none
        spread = max(float(np.ptp(values_K)), _MIN_RELATIVE_SLOPE * float(np.ptp(value_N)))
        return cls(*_made_strict(scores_K[keep_K], values_K[keep_K], spread, lowest, highest), lowest, highest)

    def __call__(self, score_N: Float64Array) -> Float64Array:
        """Return float64 [N], the values at these scores."""
        score_N = np.asarray(score_N, dtype=np.float64)
        value_N = np.interp(score_N, self.scores_K, self.values_K)
        if len(self.scores_K) < 2:
            return value_N
        slope_K = np.diff(self.values_K) / np.diff(self.scores_K)
        above_N = np.maximum(score_N - self.scores_K[-1], 0.0) * slope_K[-1]
        below_N = np.maximum(self.scores_K[0] - score_N, 0.0) * slope_K[0]
        value_N += _approach(above_N, self.highest - self.values_K[-1])
        value_N -= _approach(below_N, self.values_K[0] - self.lowest)
        return value_N

    def slope(self, score_N: Float64Array) -> Float64Array:
        """Return float64 [N], value per score around these scores (over a tenth of the knots' range)."""
        step = 0.05 * max(float(np.ptp(self.scores_K)), 1e-12)
        return (self(np.asarray(score_N) + step) - self(np.asarray(score_N) - step)) / (2 * step)


def cross_fitted(
    score_N: Float64Array, value_N: Float64Array, rng: np.random.Generator, lowest: float = 0.0, highest: float = 1.0
) -> Float64Array:
    """Return float64 [N], the value of each score by a link that was fitted without its pair (four fits)."""
    fold_N = rng.permutation(np.arange(len(score_N)) % _NUM_FOLDS)
    linked_N = np.empty(len(score_N))
    for fold in range(_NUM_FOLDS):
        left = fold_N == fold
        linked_N[left] = MonotoneLink.fit(score_N[~left], value_N[~left], lowest, highest)(score_N[left])
    return linked_N


def _tied_means(score_N: Float64Array, value_N: Float64Array) -> Float64Array:
    """Give pairs of one score their mean value, so that the order among them cannot matter."""
    _, position_N, count = np.unique(score_N, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(position_N, weights=value_N) / count)[position_N])


def _made_strict(
    scores_K: Float64Array, values_K: Float64Array, spread: float, lowest: float, highest: float
) -> tuple[Float64Array, Float64Array]:
    """Give flat stretches a small slope around the mean, within the bounds; equal values stay equal."""
    if len(scores_K) < 2 or spread == 0.0:
        return scores_K[:1], np.clip(values_K[:1], lowest, highest)
    line_K = (scores_K - scores_K.mean()) / np.ptp(scores_K)
    values_K = (1.0 - _MIN_RELATIVE_SLOPE) * (values_K - values_K.mean()) + values_K.mean()
    values_K = values_K + _MIN_RELATIVE_SLOPE * spread * line_K
    # A bound is approached from inside: a last knot on it would leave nothing to approach.
    margin = 1e-3 * min(spread, highest - lowest)
    if values_K[0] < lowest + margin or values_K[-1] > highest - margin:
        top = highest - margin if np.isfinite(highest) else max(values_K[-1], lowest + 2 * margin)
        bottom = lowest + margin if np.isfinite(lowest) else min(values_K[0], highest - 2 * margin)
        values_K = np.interp(values_K, [min(values_K[0], bottom), max(values_K[-1], top)], [bottom, top])
    return scores_K, values_K


def _approach(distance_N: Float64Array, room: float) -> Float64Array:
    """Start with slope one and never use up the room."""
    if not np.isfinite(room):
        return distance_N
    return room * -np.expm1(-distance_N / max(room, 1e-12))
