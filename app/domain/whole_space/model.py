"""The best predicted architectures of the whole product space under any limits, without a table of it.

A query is answered in milliseconds, in three steps:

1. Propose: the exact k best of an additive function that imitates the predictor (constrained_enumeration), and the best
   of the archive, architectures that were good under other limits when the model was prepared (archive).
2. Re-rank them by the full predictor, a blend of an additive part and a GCN.
3. Step: all neighbours of the best one are predicted, which gives the predictor's first-order expansion around it,
   and of the pairs of changes (an exchange under a tight limit) those that it promises most are predicted too. Then
   again from the best that was not yet stepped from.

With no graph part the proposal *is* the predictor, and the answer is exact. With one, every answer meets its limits
and its predictions are exact; that nothing better exists is what ``benchmarks.space_lookup`` measures.

The worker fits and prepares a model after the last round (:mod:`worker.nas.space_fit`) and stores its bytes, a row per
search; the API keeps the models that were asked. A model shares no mutable state between threads.
Legend: N architectures, L cells, n choices of a cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.monotone_link import MonotoneLink
from app.domain.saturation import NOT_SATURATED, Saturation
from app.domain.whole_space.additive_function import AdditiveFunction, Float64Array
from app.domain.whole_space.constrained_enumeration import ConstrainedEnumeration
from app.domain.whole_space.doubt import Doubt
from app.domain.whole_space.hamming_gcn import HammingGCN, checked_choices

ChoiceArray = NDArray[np.uint8]
Limits = Sequence[float | None]

_NUM_PROPOSED = 200
_NUM_FROM_ARCHIVE = 100
_NUM_PAIRS = 32
_MAX_EXPANDED = 400_000
_MOST_STEPS = 4
# About 20 ms of one core: all four steps with 2 x 128 hidden units, one with 2 x 512.
_WORK_PER_QUERY = 6.5e7


@dataclass(frozen=True, eq=False)
class BlendedPredictor:
    """f(M) = (1 - w) * additive part + w * GCN, the additive part with its link where it has one.

    Where accuracies saturate, both parts are efforts, and f(M) is the accuracy that their blend reaches. Link and
    saturation increase, so without a GCN the additive score alone ranks: enumerating it stays exact.

    Attributes:
        additive: Predicted accuracy (or effort) as a sum over cells, or a score that the link turns into one.
        gcn: The graph part, which predicts accuracies; None: there is none.
        gcn_weight: w, from 0 to 1.
        link: From the additive score to accuracy or effort; None: it is one.
        saturation: From accuracies to efforts and back.

    Raises:
        ValueError: If w is out of range, is above 0 without a GCN, or the parts are of different spaces.
    """

    additive: AdditiveFunction
    gcn: HammingGCN | None = None
    gcn_weight: float = 0.0
    link: MonotoneLink | None = None
    saturation: Saturation = NOT_SATURATED

    def __post_init__(self) -> None:
        if not 0 <= self.gcn_weight <= 1:
            raise ValueError(f"gcn_weight must be from 0 to 1, got {self.gcn_weight}")
        if self.gcn is None and self.gcn_weight > 0:
            raise ValueError("gcn_weight is above 0 but there is no GCN")
        if self.gcn is not None and self.gcn.factor_sizes != self.additive.factor_sizes:
            raise ValueError(
                f"the GCN is of choices {self.gcn.factor_sizes}, the additive part of {self.additive.factor_sizes}"
            )

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices of every cell."""
        return self.additive.factor_sizes

    @property
    def is_additive(self) -> bool:
        """Whether the additive part alone decides."""
        return self.gcn is None or self.gcn_weight == 0

    def predict(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], the predicted accuracies.

        Raises:
            ValueError: If a choice does not exist.
        """
        return self.saturation.accuracy(self.efforts(choices_NL))

    def efforts(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], the predictions on the scale on which the parts are blended.

        Raises:
            ValueError: If a choice does not exist.
        """
        choices = checked_choices(choices_NL, self.factor_sizes)
        score_N = self.additive.of(choices)
        additive_N = score_N if self.link is None else self.link(score_N)
        if self.gcn is None or self.gcn_weight == 0:
            return additive_N
        graph_N = self.saturation.capped_effort(self.gcn.predict(choices).astype(np.float64))
        return (1 - self.gcn_weight) * additive_N + self.gcn_weight * graph_N


@dataclass(frozen=True, eq=False)
class Candidates:
    """Distinct architectures with their predictions, best first, equal ones in lexicographic order.

    Attributes:
        choices_NL: uint8.
        predicted_N: float64, predicted accuracies.
    """

    choices_NL: ChoiceArray
    predicted_N: Float64Array

    def __len__(self) -> int:
        return len(self.predicted_N)

    @classmethod
    def of(cls, parts: Sequence[tuple[ChoiceArray, Float64Array]]) -> "Candidates":
        """Return the distinct architectures among some with known predictions; there must be at least one part."""
        choices_NL = np.ascontiguousarray(np.concatenate([choices for choices, _ in parts]))
        _, first = np.unique(choices_NL.view(f"V{choices_NL.shape[1]}").ravel(), return_index=True)
        predicted_N = np.concatenate([predicted for _, predicted in parts])[first]
        order = np.argsort(-predicted_N, kind="stable")
        return cls(choices_NL[first[order]], predicted_N[order])

    def take(self, rows: NDArray[np.bool_] | slice) -> "Candidates":
        """Return some of them, in the same order."""
        return Candidates(self.choices_NL[rows], self.predicted_N[rows])


@dataclass(frozen=True, eq=False)
class SpaceAnswer:
    """The best architectures that were found under the limits, best first.

    Attributes:
        choices_NL: uint8, choice indices.
        predicted_N: float64, predicted accuracies.
        costs: Each cost of every architecture, float64 [N], by name.
        is_exact: Whether it is proven that no others have a higher prediction.
    """

    choices_NL: ChoiceArray
    predicted_N: Float64Array
    costs: dict[str, Float64Array]
    is_exact: bool


@dataclass(frozen=True, eq=False)
class WholeSpaceModel:
    """All that a query of the whole space needs; immutable, and safe to share between threads.

    Attributes:
        predictor: What ranks.
        costs: What can be limited, by name (``multi_adds``, ``params``, a device's latency).
        proposal: An additive function that imitates the predictor where it is high.
        archive: Architectures that are good under various limits.
        doubt: How unsure predictions are by the distance from the pairs; None: that is not known.

    Raises:
        ValueError: If the parts are of different spaces.
    """

    predictor: BlendedPredictor
    costs: Mapping[str, AdditiveFunction]
    proposal: AdditiveFunction
    archive: Candidates
    doubt: Doubt | None = None

    def __post_init__(self) -> None:
        sizes = self.predictor.factor_sizes
        for name, function in (("proposal", self.proposal), *self.costs.items()):
            if function.factor_sizes != sizes:
                raise ValueError(f"{name} is of choices {function.factor_sizes}, the predictor of {sizes}")
        checked_choices(self.archive.choices_NL.reshape(-1, len(sizes)), sizes)

    @cached_property
    def num_steps(self) -> int:
        """How many steps a query takes: as many as a GCN of this size can be asked for in its time, at least one."""
        if self.predictor.gcn is None:
            return 0
        num_predictions = _WORK_PER_QUERY / self.predictor.gcn.work_per_prediction - _NUM_PROPOSED
        per_step = sum(self.predictor.factor_sizes) + _NUM_PAIRS
        return int(min(max(num_predictions // per_step, 1), _MOST_STEPS))

    @cached_property
    def _enumeration(self) -> ConstrainedEnumeration:
        return ConstrainedEnumeration(self.proposal, tuple(self.costs.values()))

    @cached_property
    def _archive_costs(self) -> tuple[Float64Array, ...]:
        return tuple(cost.of(self.archive.choices_NL) for cost in self.costs.values())

    def stretch_of(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], how much wider an interval is than that of a pair that was left out of the fit."""
        if self.doubt is None:
            return np.ones(len(np.asarray(choices_NL)))
        return self.doubt.stretch(checked_choices(choices_NL, self.predictor.factor_sizes))

    def best(self, limits: Mapping[str, float], num_best: int) -> SpaceAnswer:
        """Return the ``num_best`` architectures of highest predicted accuracy under the limits.

        Args:
            limits: Upper limits by the names of the costs; what is not named is not limited.
            num_best: How many; fewer are returned if no more meet the limits, none if nothing does.

        Raises:
            ValueError: If a cost is unknown, a limit is NaN, or ``num_best`` is below 1.
        """
        if unknown := sorted(set(limits) - set(self.costs)):
            raise ValueError(f"limits can be set on {', '.join(self.costs)}, not on {', '.join(unknown)}")
        bounds = [limits.get(name) for name in self.costs]
        num_proposed = max(num_best, _NUM_PROPOSED)
        proposed = self._enumeration.best(bounds, num_proposed, _MAX_EXPANDED, num_needed=num_best)
        if self.predictor.is_additive or not len(proposed.score_N):
            found = Candidates(proposed.choices_NL, self.predictor.predict(proposed.choices_NL))
        else:
            kept = self.archive.take(within(self._archive_costs, bounds, len(self.archive))).take(
                slice(_NUM_FROM_ARCHIVE)
            )
            known = (proposed.choices_NL, self.predictor.predict(proposed.choices_NL))
            found = self.improved(Candidates.of([known, (kept.choices_NL, kept.predicted_N)]), bounds, self.num_steps)
        found = found.take(slice(num_best))
        costs = {name: cost.of(found.choices_NL) for name, cost in self.costs.items()}
        is_exact = proposed.is_proven and (self.predictor.is_additive or not len(found))
        return SpaceAnswer(found.choices_NL, found.predicted_N, costs, is_exact)

    def improved(self, found: Candidates, limits: Limits, num_steps: int) -> Candidates:
        """Step from the best candidates and return them with what the steps found."""
        stepped: set[bytes] = set()
        for _ in range(num_steps):
            rows = (row for row in range(len(found)) if found.choices_NL[row].tobytes() not in stepped)
            row = next(rows, None)
            if row is None:
                break
            stepped.add(found.choices_NL[row].tobytes())
            around = self._around(found.choices_NL[row], limits)
            found = Candidates.of([(found.choices_NL, found.predicted_N), *around])
        return found

    def _around(self, centre_L: ChoiceArray, limits: Limits) -> list[tuple[ChoiceArray, Float64Array]]:
        """The neighbours within the limits, and of the pairs of changes those best by first-order expansion."""
        sizes = self.predictor.factor_sizes
        neighbours_NL = with_each_choice(centre_L[None], sizes)
        predicted_N = self.predictor.predict(neighbours_NL)
        cost_CN = [cost.of(neighbours_NL) for cost in self.costs.values()]
        within_N = within(cost_CN, limits, len(neighbours_NL))
        cell_N = np.repeat(np.arange(len(sizes)), sizes)
        # Changes add up: a pair's figure is the sum of both neighbours' minus the centre's, which is among them.
        own = int(centre_L[0])
        pair_costs = [np.add.outer(cost_N, cost_N) - cost_N[own] for cost_N in cost_CN]
        promise_NN = np.add.outer(predicted_N, predicted_N)
        promise_NN[~within(pair_costs, limits, promise_NN.shape) | (cell_N[:, None] >= cell_N)] = -np.inf
        best = np.argsort(-promise_NN, axis=None, kind="stable")[:_NUM_PAIRS]
        first, second = np.unravel_index(best[np.isfinite(promise_NN.ravel()[best])], promise_NN.shape)
        pairs_NL = neighbours_NL[first]
        pairs_NL[np.arange(len(first)), cell_N[second]] = neighbours_NL[second, cell_N[second]]
        return [(neighbours_NL[within_N], predicted_N[within_N]), (pairs_NL, self.predictor.predict(pairs_NL))]


def within(costs: Sequence[Float64Array], limits: Limits, shape: int | tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell where all costs, arrays of this shape, are at most at their limits."""
    within_N: NDArray[np.bool_] = np.ones(shape, dtype=bool)
    for cost_N, limit in zip(costs, limits, strict=True):
        if limit is not None:
            within_N &= cost_N <= limit
    return within_N


def with_each_choice(choices_NL: ChoiceArray, factor_sizes: Sequence[int]) -> ChoiceArray:
    """Return uint8 [N * sum of n, L]: every architecture with every cell set to each of its choices, one at a time."""
    cell_index = np.repeat(np.arange(len(factor_sizes)), factor_sizes)
    choice = np.concatenate([np.arange(size) for size in factor_sizes])
    out_NKL = np.repeat(choices_NL[:, None, :], len(choice), axis=1)
    out_NKL[:, np.arange(len(choice)), cell_index] = choice
    return out_NKL.reshape(-1, choices_NL.shape[1])
