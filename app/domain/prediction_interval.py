"""How far a pair's z may lie from its prediction: cross-conformal intervals (Vovk 2015; Barber et al. 2021).

The residuals of pairs that were left out of a fit are what the next left-out pair's residual will be like, whatever
the predictor and however the noise is distributed. They are taken group by group of predicted accuracy, because bad
architectures are predicted worse than good ones. Where it is known how unsure predictions are relative to each other,
residuals are divided by that, and intervals stretched by it (normalised conformal prediction). Where accuracies
saturate, all of this can be done with efforts: an interval is then wider below than above.
Legend: N pairs or nodes, G groups.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain.hamming_graph import Float64Array
from app.domain.saturation import NOT_SATURATED, Saturation

_PAIRS_PER_GROUP = 60
_MAX_GROUPS = 8


@dataclass(frozen=True, eq=False)
class PredictionInterval:
    """Bounds of z around a prediction.

    Attributes:
        level: Nominal probability that z is within.
        edges_G: float64 [groups - 1], predicted accuracies (or efforts) that separate the groups.
        lower_G: float64 [groups], what to add to a prediction for the lower bound (mostly negative).
        upper_G: float64 [groups], what to add for the upper.
        saturation: From accuracies to the efforts that the rest is about.
    """

    level: float
    edges_G: Float64Array
    lower_G: Float64Array
    upper_G: Float64Array
    saturation: Saturation = NOT_SATURATED

    def bounds(
        self, predicted_N: Float64Array, stretch_N: Float64Array | float = 1.0
    ) -> tuple[Float64Array, Float64Array]:
        """Return float64 [N] twice, the bounds of z of architectures with these predictions, cut to [0, 1].

        Args:
            predicted_N: float64 [N].
            stretch_N: float64 [N], how unsure each is, in the unit of the calibration.
        """
        predicted_N = self.saturation.effort(predicted_N)
        group_N = np.searchsorted(self.edges_G, predicted_N, side="right")
        return (
            np.clip(self.saturation.accuracy(predicted_N + self.lower_G[group_N] * stretch_N), 0.0, 1.0),
            np.clip(self.saturation.accuracy(predicted_N + self.upper_G[group_N] * stretch_N), 0.0, 1.0),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PredictionInterval":
        """Read what :meth:`to_dict` gave."""
        edges_G, lower_G, upper_G = (np.array(data[name], dtype=np.float64) for name in ("edges", "lower", "upper"))
        return cls(data["level"], edges_G, lower_G, upper_G, Saturation(data.get("ceiling")))

    def to_dict(self) -> dict[str, float | list[float] | None]:
        """Return the interval as JSON data."""
        return {
            "level": self.level,
            "edges": [round(value, 6) for value in self.edges_G.tolist()],
            "lower": [round(value, 6) for value in self.lower_G.tolist()],
            "upper": [round(value, 6) for value in self.upper_G.tolist()],
            "ceiling": self.saturation.ceiling,
        }


def calibrate_interval(
    left_out_predicted_N: Float64Array,
    accuracy_N: Float64Array,
    level: float = 0.9,
    stretch_N: Float64Array | None = None,
    saturation: Saturation = NOT_SATURATED,
) -> PredictionInterval | None:
    """Return the interval that left-out predictions of known pairs call for; None if there are too few of them.

    Each side leaves out half of what is allowed to be outside, with the conformal correction for finitely many pairs:
    a level of 90 % takes 19 of them, fewer cannot say where so few of the next ones will be. A small error remains
    because a left-out prediction is made from fewer pairs.

    Args:
        left_out_predicted_N: float64 [N], predictions of pairs by fits without them.
        accuracy_N: float64 [N], their z.
        level: Nominal coverage.
        stretch_N: float64 [N], how unsure each left-out prediction is relative to others; None: all alike.
        saturation: That of the accuracies.

    Raises:
        ValueError: If there are no pairs, lengths differ, or the level is not between 0 and 1.
    """
    predicted_N, accuracy_N = np.asarray(left_out_predicted_N), np.asarray(accuracy_N)
    if predicted_N.shape != accuracy_N.shape or not accuracy_N.size:
        raise ValueError(
            f"{predicted_N.size} predictions and {accuracy_N.size} accuracies; give one prediction per pair"
        )
    if not 0 < level < 1:
        raise ValueError(f"level is the share of pairs inside, between 0 and 1, got {level}")
    if _rank(len(predicted_N), level) > len(predicted_N):
        return None
    predicted_N, accuracy_N = saturation.effort(predicted_N), saturation.effort(accuracy_N)
    num_groups = int(np.clip(len(predicted_N) // _PAIRS_PER_GROUP, 1, _MAX_GROUPS))
    edges_G = np.unique(np.quantile(predicted_N, np.arange(1, num_groups) / num_groups))
    group_N = np.searchsorted(edges_G, predicted_N, side="right")
    residual_N = (accuracy_N - predicted_N) / (1.0 if stretch_N is None else stretch_N)
    sides = [_conformal_bounds(residual_N[group_N == group], residual_N, level) for group in range(len(edges_G) + 1)]
    lower_G, upper_G = np.array([a for a, _ in sides]), np.array([b for _, b in sides])
    return PredictionInterval(level, edges_G, lower_G, upper_G, saturation)


def _rank(num_residuals: int, level: float) -> int:
    """Which residual in ascending order is the upper bound."""
    # as a fraction 20 * 0.95 is a little above 19
    return math.ceil((num_residuals + 1) * (1 + level) / 2 - 1e-9)


def _conformal_bounds(residual_N: Float64Array, all_N: Float64Array, level: float) -> tuple[float, float]:
    """The bounds by a group's residuals, or by all where equal predictions left it too few."""
    ordered_N = np.sort(residual_N if _rank(len(residual_N), level) <= len(residual_N) else all_N)
    rank = _rank(len(ordered_N), level)
    return float(ordered_N[len(ordered_N) - rank]), float(ordered_N[rank - 1])
