"""Accuracy that saturates: near its ceiling much effort buys little, and equal efforts add up where accuracies do not.

Cells that are searched late are judged beside good ones, where every choice changes little; far from the pairs the same
choices change much. On the effort scale they change the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Saturation:
    """accuracy = ceiling - exp(-effort), or accuracies that do not saturate: they are their efforts.

    Attributes:
        ceiling: The accuracy that no effort reaches, above all accuracies that it was chosen for; None: there is none.
        nearest: How near to the ceiling predictions of another kind may come before they are taken for as near.
    """

    ceiling: float | None = None
    nearest: float = 0.0

    def effort(self, accuracy_N: Float64Array | float) -> Float64Array:
        """Return float64 [N], increasing with accuracy; an accuracy at the ceiling or above is taken just below."""
        accuracy_N = np.asarray(accuracy_N, dtype=np.float64)
        return accuracy_N if self.ceiling is None else -np.log(np.maximum(self.ceiling - accuracy_N, 1e-9))

    def capped_effort(self, accuracy_N: Float64Array) -> Float64Array:
        """Return float64 [N], efforts of what knows no ceiling: a hair below it would outrank everything."""
        return self.effort(accuracy_N if self.ceiling is None else np.minimum(accuracy_N, self.ceiling - self.nearest))

    @property
    def bounds(self) -> tuple[float, float]:
        """The efforts of the accuracies 0 and 1; what is above the ceiling takes any effort."""
        highest = float("inf") if self.ceiling is not None and self.ceiling <= 1.0 else float(self.effort(1.0))
        return float(self.effort(0.0)), highest

    def accuracy(self, effort_N: Float64Array | float) -> Float64Array:
        """Return float64 [N], the accuracy that these efforts reach."""
        effort_N = np.asarray(effort_N, dtype=np.float64)
        return effort_N if self.ceiling is None else np.asarray(self.ceiling - np.exp(-effort_N))

    def deviation(self, deviation: float, effort_N: Float64Array) -> float:
        """Return the standard deviation of accuracies around these efforts, given that of the efforts."""
        return deviation if self.ceiling is None else deviation * float(np.sqrt(np.exp(-2 * effort_N).mean()))


NOT_SATURATED = Saturation()
