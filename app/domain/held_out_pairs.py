"""How well a predictor ranks the held-out pairs that meet limits: the rank correlation within an asked band.

Limits that leave only good architectures make ranking harder, so the tau of a whole round flatters an answer under
limits. Lookups ask often: which pairs are in order is compared once. Legend: N held-out pairs, L cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.domain.lookup_table import Limits
from app.domain.whole_space.additive_function import AdditiveFunction

MAX_PAIRS = 300
"""More pairs hardly change a tau, and their comparisons grow with the square."""


@dataclass(frozen=True, eq=False)
class HeldOutPairs:
    """Pairs that no fit has seen, with what it predicts for them.

    Attributes:
        predicted_N: float, f(M).
        accuracy_N: float, z.
        multi_adds_N: int64, of the target networks.
        params_N: int64, likewise.
        choices_NL: int64, the architectures.
    """

    predicted_N: NDArray[np.float64]
    accuracy_N: NDArray[np.float64]
    multi_adds_N: NDArray[np.int64]
    params_N: NDArray[np.int64]
    choices_NL: NDArray[np.int64]

    def tau_within(
        self, limits: Limits, latencies: Sequence[tuple[AdditiveFunction, float]] = ()
    ) -> tuple[float | None, int]:
        """Return Kendall's tau-b of f(M) against z over the pairs within the limits, and how many these are.

        The tau is None where it is undefined: fewer than two pairs, or one side all equal.

        Args:
            limits: On multi-adds and parameters.
            latencies: Devices' latencies, each with its limit in milliseconds.
        """
        within_N = np.ones(len(self.predicted_N), dtype=np.float32)
        if limits.max_multi_adds is not None:
            within_N[self.multi_adds_N > limits.max_multi_adds] = 0
        if limits.max_params is not None:
            within_N[self.params_N > limits.max_params] = 0
        for latency, max_ms in latencies:
            within_N[latency.of(self.choices_NL) > max_ms] = 0
        concordant, different_predictions, different_accuracies = (
            float(within_N @ signs_NN @ within_N) for signs_NN in self._comparisons
        )
        scale = np.sqrt(different_predictions * different_accuracies)
        return (concordant / scale if scale else None), int(within_N.sum())

    @cached_property
    def _comparisons(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """For every two pairs: 1 or -1 if both orders agree or not, and whether each of them is an order at all."""
        first_NN, second_NN = (
            np.sign(value_N[:, None] - value_N[None, :]).astype(np.float32)
            for value_N in (self.predicted_N, self.accuracy_N)
        )
        return first_NN * second_NN, first_NN**2, second_NN**2
