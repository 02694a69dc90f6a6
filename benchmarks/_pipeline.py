"""A search run to its end in one thread, its outcomes kept in memory: the worker's own steps, without a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.lookup_table import LookupTable
from app.domain.steps import PairSource
from app.domain.subspace import Subspace
from worker.networks import TorchNetworks
from worker.pipeline.ports import (
    ClosedRound,
    FittedTable,
    NewStep,
    Outcome,
    Pair,
    Search,
    StandaloneLabel,
    Step,
)
from worker.pipeline.search import run_step

SHARD_SIZE = 10_000
"""Whole stages in one step; how shards are cut changes no result."""


def _no_report(done: float, detail: Mapping[str, Any] | None) -> None:
    """Nobody watches, nobody interrupts."""


@dataclass
class Finished:
    """All that a search found, as its :class:`worker.pipeline.ports.Reader` and afterwards.

    Attributes:
        subspaces: S_t by round.
        stored_pairs: By round and source.
        fitted: Tables by round.
        closed: Results by round.
        results: Figures of the steps, by kind.
        standalone: True labels.
    """

    subspaces: dict[int, Subspace] = field(default_factory=dict)
    stored_pairs: dict[tuple[int, str], list[Pair]] = field(default_factory=dict)
    fitted: dict[int, FittedTable] = field(default_factory=dict)
    closed: dict[int, ClosedRound] = field(default_factory=dict)
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    standalone: list[StandaloneLabel] = field(default_factory=list)

    def subspace(self, search: Search, round_index: int) -> Subspace:
        """Return S_t."""
        return self.subspaces[round_index]

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        """Return a round's pairs of one source, sorted by code."""
        return sorted(self.stored_pairs[round_index, source], key=lambda pair: pair.code)

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        """Return predicted accuracies of some rows of a round's table."""
        predicted_N = self.fitted[round_index].table.predicted_accuracy
        return {index: float(predicted_N[index]) for index in subspace_indices}

    def table(self, search: Search, round_index: int) -> LookupTable:
        """Return the table that a round has published last."""
        return self.fitted[round_index].table

    def fit_report(self, search: Search, round_index: int) -> Mapping[str, Any]:
        """Return the figures that were published with it."""
        return self.fitted[round_index].report

    def labels(self, search: Search) -> list[StandaloneLabel]:
        """Return the architectures that were trained by themselves, sorted by round and code."""
        return sorted(self.standalone, key=lambda label: (label.round_index, label.code))

    def keep(self, step: Step, outcome: Outcome) -> None:
        """Keep what a step gave."""
        self.results[step.kind] = outcome.result
        if outcome.opened_round is not None:
            self.subspaces[outcome.opened_round.round_index] = outcome.opened_round.subspace
        if step.round_index is None:
            return
        if outcome.pairs:
            self.stored_pairs.setdefault((step.round_index, outcome.pair_source), []).extend(outcome.pairs)
        if (trained := outcome.standalone) is not None:
            predictions = tuple(step.payload["predictions"])
            label = StandaloneLabel(step.round_index, trained.retraining.code, trained.accuracy, predictions)
            self.standalone.append(label)
        if outcome.fitted is not None:
            self.fitted[step.round_index] = outcome.fitted
        if outcome.closed_round is not None:
            self.closed[step.round_index] = outcome.closed_round


def run_search(
    search: Search,
    networks: TorchNetworks,
    beforehand: Callable[[Search, Sequence[NewStep]], None] = lambda _search, _steps: None,
) -> Finished:
    """Run all steps of a search; a supernet that is among the artifacts is not trained again.

    Args:
        search: The search.
        networks: What its steps work with.
        beforehand: Called with steps that could run at the same time, before they run one by one.
    """
    finished, ready, number = Finished(), [NewStep("train_supernet", None)], 0
    while ready:
        new = ready.pop(0)
        step = Step(number, new.kind, new.round_index, new.shard_index, new.payload, attempt=1)
        if step.kind == "fit_space":
            # the whole space is the only table here
            ready.append(NewStep("advance", step.round_index))
            continue
        outcome = run_step(search, step, networks, finished, _no_report, shard_size=SHARD_SIZE)
        finished.keep(step, outcome)
        beforehand(search, outcome.next_steps)
        ready += outcome.next_steps
        of_stage = any((s.kind, s.round_index) == (new.kind, new.round_index) for s in ready)
        if outcome.when_stage_done is not None and not of_stage:
            ready.append(outcome.when_stage_done)
        number += 1
    return finished
