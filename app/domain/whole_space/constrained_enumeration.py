"""The k best architectures of the whole product space under limits: exact enumeration of an additive score.

Vectorised branch and bound, one cell per level. A partial architecture is kept as long as its bound (budget_bound)
reaches the k-th best score known. Sweeps go from the first cell to the last with the best partials of each level; what
a sweep leaves behind waits in its level's pool until it is pruned or its turn comes. So the first sweep finds good
architectures, the following ones prove that there are no better, and the answer is that of a scan of the whole space.
Legend: C limited costs, L cells, n choices of a cell, N partial architectures, W words of a key.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.domain.whole_space.additive_function import AdditiveFunction, Float64Array
from app.domain.whole_space.limited_score import IntpArray, LimitableScore, LimitedScore

Int64Array = NDArray[np.int64]

_SWEEP_GROWTH = 2
MAX_EXPANDED = 5_000_000
"""About half a second, and 300 MB; with one limit on 19 cells, 60,000 are enough for the best 500."""
_FIRST_SWEEP_SURPLUS = 64
_LARGEST = np.finfo(np.float64).max
_WORD_LIMIT = 2**62


@dataclass(frozen=True)
class BestArchitectures:
    """The best architectures under some limits, best first; of equal scores the lexicographically first comes first.

    Attributes:
        choices_NL: uint8, choice indices.
        score_N: float64.
        num_expanded: How many partial architectures were looked at.
        is_proven: False if the search was stopped before it was sure that there are no better ones. They meet the
            limits all the same.
    """

    choices_NL: NDArray[np.uint8]
    score_N: Float64Array
    num_expanded: int = 0
    is_proven: bool = True


@dataclass(frozen=True)
class _Partials:
    """Architectures whose first cells are decided.

    Attributes:
        score_N: float64, the score of the decided cells.
        remaining_CN: float64, what is left of each limit above the smallest cost of the undecided cells.
        key_WN: int64, the decided choices as mixed-radix numbers, most significant word first.
    """

    score_N: Float64Array
    remaining_CN: Float64Array
    key_WN: Int64Array

    def __len__(self) -> int:
        return len(self.score_N)

    def joined(self, other: "_Partials") -> "_Partials":
        """Return both in one."""
        return _Partials(
            np.concatenate([self.score_N, other.score_N]),
            np.concatenate([self.remaining_CN, other.remaining_CN], axis=1),
            np.concatenate([self.key_WN, other.key_WN], axis=1),
        )

    def take(self, rows: IntpArray) -> "_Partials":
        """Return some of them."""
        return _Partials(self.score_N[rows], self.remaining_CN[:, rows], self.key_WN[:, rows])


@dataclass
class _Block:
    """All children of some partials, of which some are still pending; a child costs nothing until it is taken.

    Attributes:
        parent_key_WM: int64, the parents' keys.
        num_choices: Children per parent; child i is choice i % num_choices of parent i // num_choices.
        word: Which word of the key the choice belongs to.
        bound_N: float64, the highest score that any completion can have.
        score_N: float64, as in :class:`_Partials`.
        remaining_CN: float64, likewise.
        pending: The children that may still be part of the answer, ascending.
    """

    parent_key_WM: Int64Array
    num_choices: int
    word: int
    bound_N: Float64Array
    score_N: Float64Array
    remaining_CN: Float64Array
    pending: IntpArray

    def keys(self, rows: IntpArray) -> Int64Array:
        """int64 [W, n], the keys of some children."""
        parent, choice = np.divmod(rows, self.num_choices)
        key_Wn = self.parent_key_WM[:, parent]
        key_Wn[self.word] = key_Wn[self.word] * self.num_choices + choice
        return key_Wn

    def take(self, rows: IntpArray) -> _Partials:
        """Return some children."""
        return _Partials(self.score_N[rows], self.remaining_CN[:, rows], self.keys(rows))


@dataclass(frozen=True, eq=False)
class ConstrainedEnumeration:
    """k-best enumeration for one score and several costs, prepared once and asked under any limits.

    Attributes:
        score: What is to be as high as possible.
        costs: What can be limited.

    Raises:
        ValueError: If score and costs are not of the same cells and choices.
    """

    score: AdditiveFunction
    costs: tuple[AdditiveFunction, ...]

    def __post_init__(self) -> None:
        for number, cost in enumerate(self.costs):
            if cost.factor_sizes != self.score.factor_sizes:
                raise ValueError(f"cost {number} has choices {cost.factor_sizes}, the score {self.score.factor_sizes}")
        if max(self.score.factor_sizes) > np.iinfo(np.uint8).max:
            raise ValueError("a cell can have up to 255 choices")

    @cached_property
    def _prepared(self) -> LimitableScore:
        return LimitableScore.of(self.score, self.costs)

    def best(
        self,
        limits: Sequence[float | None],
        num_best: int,
        max_expanded: int = MAX_EXPANDED,
        num_needed: int = 0,
    ) -> BestArchitectures:
        """Return the ``num_best`` architectures of highest score with every cost at most at its limit.

        Args:
            limits: One upper limit per cost; None or infinity: not limited.
            num_best: How many; fewer are returned if no more meet the limits.
            max_expanded: Stop after so many partial architectures, even if the answer is not proven then. With one
                limit this is never reached; many limits at once, each as tight as the others, are a hard problem. It is
                shared by the bounds of all limits that bind, as the time of each is.
            num_needed: With fewer found go on for as long again, and for up to ``MAX_EXPANDED`` with none.

        Raises:
            ValueError: If the number of limits is not that of the costs, one is NaN, or ``num_best`` is below 1.
        """
        if len(limits) != len(self.costs) or any(limit is not None and math.isnan(limit) for limit in limits):
            raise ValueError(f"give {len(self.costs)} limits, each a number or None, not {list(limits)}")
        if num_best < 1:
            raise ValueError(f"num_best must be at least 1, got {num_best}")
        problem = self._prepared.under(limits)
        if problem is None:
            return BestArchitectures(np.zeros((0, len(self.score.tables)), np.uint8), np.zeros(0))
        return _Search(problem, num_best).run(max_expanded // max(len(problem.bounds), 1), num_needed)


class _Search:
    """The sweeps of one query; ``_pools[l]`` holds the blocks of partial architectures with l decided cells."""

    def __init__(self, problem: LimitedScore, num_best: int) -> None:
        self._problem = problem
        self._num_best = num_best
        self._num_cells = len(problem.scores)
        self._words = _words([len(score_n) for score_n in problem.scores])
        self._word_of = [word for word, cells in enumerate(self._words) for _ in cells]
        self._threshold = -math.inf
        self._best = self._root().take(np.zeros(0, dtype=np.intp))
        self._num_expanded = 0

    def run(self, max_expanded: int, num_needed: int = 0) -> BestArchitectures:
        """Sweep until every pool is empty, or the work is more than it may be (the first sweep always ends)."""
        pools: list[list[_Block]] = [[] for _ in range(self._num_cells + 1)]
        width = self._num_best + _FIRST_SWEEP_SURPLUS
        chosen, num_sweeps = self._root(), 0
        while True:
            for level in range(self._num_cells):
                if self._is_spent(max_expanded, num_needed) and num_sweeps:
                    break
                if level:
                    chosen = self._pop(pools[level], level, width)
                if len(chosen):
                    pools[level + 1].append(self._children(chosen, level))
            self._keep_best(self._pop(pools[-1], self._num_cells, self._num_best))
            pools[-1].clear()
            chosen = chosen.take(np.zeros(0, dtype=np.intp))
            num_sweeps += 1
            if not any(pools) or self._is_spent(max_expanded, num_needed):
                break
            width *= _SWEEP_GROWTH
        return BestArchitectures(self._decoded(), self._best.score_N, self._num_expanded, not any(pools))

    def _is_spent(self, max_expanded: int, num_needed: int) -> bool:
        if len(self._best) >= num_needed:
            most = max_expanded
        else:
            most = 2 * max_expanded if len(self._best) else max(max_expanded, MAX_EXPANDED)
        return self._num_expanded > most

    def _root(self) -> _Partials:
        problem = self._problem
        key_W1 = np.zeros((len(self._words), 1), dtype=np.int64)
        return _Partials(np.full(1, problem.constant), problem.slack_C[:, None], key_W1)

    def _children(self, parents: _Partials, level: int) -> _Block:
        """Decide one more cell in every possible way."""
        problem = self._problem
        score_n, cost_Cn = problem.scores[level], problem.costs[level]
        score_N = (parents.score_N[:, None] + score_n).ravel()
        remaining_CN = (parents.remaining_CN[:, :, None] - cost_Cn[:, None, :]).reshape(len(cost_Cn), len(score_N))
        self._num_expanded += len(score_N)
        bound_N = problem.bounds[0].of(level + 1, remaining_CN)
        for bound in problem.bounds[1:]:
            np.minimum(bound_N, bound.of(level + 1, remaining_CN), out=bound_N)
        bound_N += score_N
        possible_N = bound_N >= max(self._threshold, -_LARGEST)
        for remaining_N in remaining_CN:
            possible_N &= remaining_N >= 0
        word = self._word_of[level]
        pending = np.flatnonzero(possible_N)
        return _Block(parents.key_WN, len(score_n), word, bound_N, score_N, remaining_CN, pending)

    def _pop(self, blocks: list[_Block], level: int, width: int) -> _Partials:
        """Take the ``width`` pending partials of highest bound; of equal bounds the lexicographically first."""
        self._prune(blocks, level)
        taken = [block.take(rows) for block, rows in zip(blocks, _highest(blocks, width), strict=True)]
        return functools.reduce(_Partials.joined, taken) if taken else self._best.take(np.zeros(0, dtype=np.intp))

    def _prune(self, blocks: list[_Block], level: int) -> None:
        """Drop what cannot reach the answer any more, or only by a tie that comes after the last of the answer."""
        if self._threshold > -math.inf:
            for block in blocks:
                bound_n = block.bound_N[block.pending]
                promising_n = bound_n >= self._threshold
                tied = np.flatnonzero(bound_n == self._threshold)
                if tied.size:
                    promising_n[tied] = self._before_last(block.keys(block.pending[tied]), level)
                block.pending = block.pending[promising_n]
        blocks[:] = [block for block in blocks if block.pending.size]

    def _before_last(self, key_Wn: Int64Array, level: int) -> NDArray[np.bool_]:
        """Tell whether these first ``level`` choices are lexicographically at most those of the answer's last."""
        before_n = np.zeros(key_Wn.shape[1], dtype=bool)
        equal_n = np.ones(key_Wn.shape[1], dtype=bool)
        for word, cells in enumerate(self._words):
            undecided = [len(self._problem.scores[cell]) for cell in cells if cell >= level]
            last = int(self._best.key_WN[word, -1]) // math.prod(undecided)
            before_n |= equal_n & (key_Wn[word] < last)
            equal_n &= key_Wn[word] == last
        return before_n | equal_n

    def _keep_best(self, leaves: _Partials) -> None:
        """Merge whole architectures into the answer and raise the threshold."""
        joined = self._best.joined(leaves)
        order = np.lexsort((*joined.key_WN[::-1], -joined.score_N))[: self._num_best]
        self._best = joined.take(order)
        if len(order) == self._num_best:
            self._threshold = float(self._best.score_N[-1])

    def _decoded(self) -> NDArray[np.uint8]:
        """uint8 [N, L]: the answer's choices, as indices into the original cells."""
        choices_NL = np.zeros((len(self._best), self._num_cells), dtype=np.uint8)
        for word, cells in enumerate(self._words):
            key_N = self._best.key_WN[word]
            for level in reversed(cells):
                key_N, digit_N = np.divmod(key_N, len(self._problem.kept[level]))
                choices_NL[:, level] = self._problem.kept[level][digit_N]
        return choices_NL


def _highest(blocks: Sequence[_Block], width: int) -> list[IntpArray]:
    """Take the rows of highest bound out of the blocks' pending ones: one ascending array per block."""
    if sum(block.pending.size for block in blocks) <= width:
        chosen = [block.pending for block in blocks]
        for block in blocks:
            block.pending = block.pending[:0]
        return chosen
    bounds = [block.bound_N[block.pending] for block in blocks]
    bound_n = np.concatenate(bounds)
    cut = np.partition(bound_n, len(bound_n) - width)[len(bound_n) - width]
    chosen_n = bound_n > cut
    tied = np.flatnonzero(bound_n == cut)
    missing = width - int(np.count_nonzero(chosen_n))
    if tied.size > missing:
        key_Wn = np.concatenate([block.keys(block.pending) for block in blocks], axis=1)[:, tied]
        tied = tied[np.lexsort(key_Wn[::-1])[:missing]]
    chosen_n[tied] = True
    rows = []
    for block, chosen_of_block in zip(
        blocks, np.split(chosen_n, np.cumsum([len(bound) for bound in bounds])[:-1]), strict=True
    ):
        rows.append(block.pending[chosen_of_block])
        block.pending = block.pending[~chosen_of_block]
    return rows


def _words(factor_sizes: Sequence[int]) -> list[range]:
    """Cut the cells into runs whose choices fit one int64."""
    words, start, size = [], 0, 1
    for level, num_choices in enumerate(factor_sizes):
        if size * num_choices > _WORD_LIMIT:
            words.append(range(start, level))
            start, size = level, 1
        size *= num_choices
    return [*words, range(start, len(factor_sizes))]
