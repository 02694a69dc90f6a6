"""Predictions as normal scores of their ranks, and back: the scale on which predictors of different kinds are compared.

Accuracy saturates, and a few broken architectures lie far below all others; a least-squares model on accuracies would
spend itself on those. Ranks do not mind. Legend: S architectures of a space, N some of them, U distinct predictions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata

from app.domain.hamming_graph import Float64Array

_STEP_OF_EQUALS = 1e-3


@dataclass(frozen=True, eq=False)
class RankScale:
    """A monotone map between the predictions of one predictor and their normal scores.

    Attributes:
        value_U: float64, distinct predictions, ascending; at least two.
        score_U: float64, their normal scores, ascending.
    """

    value_U: Float64Array
    score_U: Float64Array

    @classmethod
    def of(cls, predicted_S: ArrayLike) -> "RankScale":
        """Return the scale of all predictions of a space.

        Raises:
            ValueError: If a prediction is not finite, or there are none.
        """
        predicted = np.asarray(predicted_S, dtype=np.float64)
        if not predicted.size or not np.isfinite(predicted).all():
            raise ValueError("a scale needs at least one prediction, and all of them finite")
        value_U, first = np.unique(predicted, return_index=True)
        score_U = ndtri((rankdata(predicted)[first] - 0.5) / predicted.size)
        if len(value_U) == 1:
            # nothing to rank: any small distance will do
            return cls(np.array([value_U[0], value_U[0] + _STEP_OF_EQUALS]), np.array([0.0, 1.0]))
        return cls(value_U, np.asarray(score_U))

    def scores(self, predicted_N: ArrayLike) -> Float64Array:
        """Return float64 [N], the normal scores of predictions; between two known ones on the line between them."""
        return np.interp(np.asarray(predicted_N, dtype=np.float64), self.value_U, self.score_U)

    def values(self, score_N: ArrayLike) -> Float64Array:
        """Return float64 [N], the predictions of scores; beyond the ends in mean steps, so that order is kept."""
        scores = np.asarray(score_N, dtype=np.float64)
        step = (self.value_U[-1] - self.value_U[0]) / (self.score_U[-1] - self.score_U[0])
        inside_N = np.interp(scores, self.score_U, self.value_U)
        beyond_N = scores - np.clip(scores, self.score_U[0], self.score_U[-1])
        return np.asarray(inside_N + step * beyond_N)
