"""A lookup table in memory, best first: the best rows under limits on any costs that are sums over cells.

The stored table answers limits on its own columns from an index. Whatever else is a sum over cells, such as a device's
latency, is added up here for all rows at the moment of the question (under a millisecond for 279,936 rows), so it needs
no column, and any number of such limits hold at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.multi_adds import cost_functions
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_function import AdditiveFunction


@dataclass(frozen=True, eq=False)
class RankedTable:
    """Predictions of a subspace and their order; 8 bytes per architecture.

    Attributes:
        subspace: S_t.
        predicted_accuracy: f(M), float32 [size], in the order of the subspace's index.
        order: Indices from the best to the worst, equal ones ascending, int32 [size].
    """

    subspace: Subspace
    predicted_accuracy: npt.NDArray[np.float32]
    order: npt.NDArray[np.int32]

    @cached_property
    def costs(self) -> dict[str, AdditiveFunction]:
        """Multi-adds and parameters of the target network, by name."""
        return cost_functions(self.subspace.space)

    @classmethod
    def from_predictions(cls, subspace: Subspace, predicted_accuracy_N: npt.NDArray[np.float32]) -> "RankedTable":
        """Rank the predictions of a subspace, float32 [size]."""
        order = np.argsort(-predicted_accuracy_N, kind="stable").astype(np.int32)
        return cls(subspace, predicted_accuracy_N, order)

    def top(self, num: int, limits: Sequence[tuple[AdditiveFunction, float]]) -> list[int]:
        """Return the indices of the best rows of which every cost is at most at its limit, best first."""
        within_N = self.within(limits)
        best: list[int] = self.order[within_N[self.order]][:num].tolist()
        return best

    def within(self, limits: Sequence[tuple[AdditiveFunction, float]]) -> npt.NDArray[np.bool_]:
        """Return which rows have every cost at most at its limit, bool [size]."""
        within_N = np.ones(self.subspace.size, dtype=bool)
        for cost, limit in limits:
            within_N &= self.subspace.sums(cost) <= limit
        return within_N

    def front(self, cost: AdditiveFunction, within_N: npt.NDArray[np.bool_]) -> list[int]:
        """Return the rows of some that no other of them beats in prediction and a cost, cheapest first.

        Of rows that are equal in both, it is the one of the smallest index.
        """
        index_K = self.order[within_N[self.order]]
        # stable: equally cheap ones stay best first, with ascending indices
        index_K = index_K[np.argsort(self.subspace.sums(cost)[index_K], kind="stable")]
        accuracy_K = self.predicted_accuracy[index_K]
        best_before_K = np.maximum.accumulate(np.concatenate([[-np.inf], accuracy_K])[:-1])
        front: list[int] = index_K[accuracy_K > best_before_K].tolist()
        return front

    def range(self, cost: AdditiveFunction) -> tuple[float, float]:
        """Return the smallest and the largest cost of the rows."""
        cost_N = self.subspace.sums(cost)
        return float(cost_N.min()), float(cost_N.max())
