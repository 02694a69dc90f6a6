"""The lookup table of a subspace: predicted accuracy and costs of every architecture (section 4.5).

Rows are ordered by predicted accuracy, descending; equal ones by their index in the subspace, ascending.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.subspace import Subspace

BAND_DEPTH = 100
"""k: the largest page that is answered from the band."""

_BLOCK = 4096
_BINS = 128


@dataclass(frozen=True)
class Limits:
    """Hardware constraints on an architecture; None: no limit.

    Attributes:
        max_multi_adds: Multi-adds per image (not millions).
        max_params: Parameters.
    """

    max_multi_adds: int | None = None
    max_params: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, {value} is")


@dataclass(frozen=True, eq=False)
class LookupTable:
    """One row per architecture of a subspace, in the order of its index.

    Attributes:
        subspace: S_t.
        predicted_accuracy: f(M), float32 [size].
        multi_adds: Of the target network, int64 [size].
        params: Of the target network, int64 [size].
    """

    subspace: Subspace
    predicted_accuracy: npt.NDArray[np.float32]
    multi_adds: npt.NDArray[np.int64]
    params: npt.NDArray[np.int64]

    @classmethod
    def from_predictions(cls, subspace: Subspace, predicted_accuracy_N: npt.NDArray[np.float32]) -> "LookupTable":
        """Build the table of a subspace from the predictor's output, float32 [size].

        Raises:
            ValueError: If there is not one finite prediction per architecture.
        """
        predicted = np.ascontiguousarray(predicted_accuracy_N, dtype=np.float32)
        if predicted.shape != (subspace.size,):
            raise ValueError(f"{subspace.size} predictions are needed, not an array of shape {predicted.shape}")
        if not np.isfinite(predicted).all():
            raise ValueError("a prediction is not finite: the predictor diverged; lower gcn_learning_rate")
        return cls(subspace, predicted, *subspace.costs())

    @property
    def num_rows(self) -> int:
        """Number of architectures."""
        return self.predicted_accuracy.size

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Row indices from the best to the worst, int64 [size]."""
        return np.argsort(-self.predicted_accuracy, kind="stable")

    def top(self, num: int, limits: Limits | None = None) -> npt.NDArray[np.int64]:
        """Return the best rows under the limits by a scan of the whole table, best first: int64 [<= num]."""
        order = self.order
        if limits is not None and limits.max_multi_adds is not None:
            order = order[self.multi_adds[order] <= limits.max_multi_adds]
        if limits is not None and limits.max_params is not None:
            order = order[self.params[order] <= limits.max_params]
        return order[:num]

    def digest(self) -> str:
        """SHA-256 of the subspace and the table's bytes: equal exactly where two tables are equal."""
        sha = hashlib.sha256(json.dumps(self.subspace.to_dict(), sort_keys=True).encode())
        for column, dtype in ((self.predicted_accuracy, "<f4"), (self.multi_adds, "<i8"), (self.params, "<i8")):
            sha.update(np.ascontiguousarray(column, dtype=dtype).tobytes())
        return sha.hexdigest()

    def band(self, depth: int = BAND_DEPTH, on_block: Callable[[], None] = lambda: None) -> npt.NDArray[np.int16]:
        """Return for every row how many rows beat it, int16 [size]; -1 where that is ``depth`` or more.

        A row beats another if it comes earlier in the order and costs no more of anything. So the best ``depth``
        architectures under *any* limits all have a band of 0 or more. ``on_block`` is called every few thousand rows,
        and may raise to stop.
        """
        order = self.order
        costs_NC = np.stack([self.multi_adds[order], self.params[order]], axis=1)
        band = np.full(self.num_rows, -1, dtype=np.int16)
        band[order] = _num_dominators(costs_NC, depth, on_block)
        return band


def _num_dominators(costs_NC: npt.NDArray[np.int64], depth: int, on_block: Callable[[], None]) -> npt.NDArray[np.int16]:
    """For rows from best to worst, count the earlier ones that cost no more of anything; -1 from ``depth`` on.

    Whoever is beaten by ``depth`` rows is beaten by ``depth`` rows of the band, so it is enough to compare with those.
    A histogram of the band's costs bounds the count from below and spares most rows the comparison.
    """
    num_rows, num_costs = costs_NC.shape
    edges = [np.unique(np.quantile(costs_NC[:, c], np.linspace(0, 1, _BINS))) for c in range(num_costs)]
    bins_NC = np.stack([np.searchsorted(e, costs_NC[:, c], side="right") for c, e in enumerate(edges)], axis=1)
    histogram = np.zeros([len(e) + 1 for e in edges], dtype=np.int64)
    out = np.full(num_rows, -1, dtype=np.int16)
    band_MC = np.empty((0, num_costs), dtype=np.int64)
    for start in range(0, num_rows, _BLOCK):
        on_block()
        block, bins = costs_NC[start : start + _BLOCK], bins_NC[start : start + _BLOCK]
        below = histogram
        for axis in range(num_costs):
            below = np.cumsum(below, axis=axis)
        # rows of strictly lower bins cost strictly less
        lower = below[tuple(np.maximum(bins - 1, 0).T)] * (bins > 0).all(axis=1)
        open_rows = np.flatnonzero(lower < depth)
        counts = _count_not_above(block[open_rows], band_MC, depth)
        within = np.flatnonzero(counts < depth)
        # inside the block, earlier open rows may beat later ones
        candidates, counts = open_rows[within], counts[within]
        counts = counts + _count_earlier(block[candidates])
        kept = counts < depth
        out[start + candidates[kept]] = counts[kept]
        band_MC = np.concatenate([band_MC, block[candidates[kept]]])
        np.add.at(histogram, tuple(bins[candidates[kept]].T), 1)
    return out


def _count_not_above(
    rows_RC: npt.NDArray[np.int64], others_MC: npt.NDArray[np.int64], depth: int
) -> npt.NDArray[np.int64]:
    """How many of the others cost no more of anything, per row (from ``depth`` on the count may stop)."""
    counts = np.zeros(len(rows_RC), dtype=np.int64)
    for start in range(0, len(others_MC), _BLOCK):
        left = np.flatnonzero(counts < depth)
        if not left.size:
            break
        chunk = others_MC[start : start + _BLOCK]
        beaten = np.ones((left.size, len(chunk)), dtype=bool)
        for cost in range(rows_RC.shape[1]):
            beaten &= chunk[None, :, cost] <= rows_RC[left, None, cost]
        counts[left] += beaten.sum(axis=1)
    return counts


def _count_earlier(rows_RC: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many earlier rows of the same list cost no more of anything, per row."""
    beaten = np.ones((len(rows_RC), len(rows_RC)), dtype=bool)
    for cost in range(rows_RC.shape[1]):
        beaten &= rows_RC[None, :, cost] <= rows_RC[:, None, cost]
    counts: npt.NDArray[np.int64] = np.tril(beaten, -1).sum(axis=1)
    return counts
