"""The ports in memory: networks whose accuracy is a formula, a reader over dicts, and a scheduler of a few lines."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from app.domain.lookup_table import LookupTable
from app.domain.rank_correlation import kendall_tau
from app.domain.search_config import from_preset
from app.domain.search_space import Architecture, SearchSpace
from app.domain.standalone_recipe import Retraining
from app.domain.steps import PairSource
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_ridge import fit_additive
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.model import BlendedPredictor
from worker.pipeline.ports import (
    ClosedRound,
    Fit,
    FittedSpace,
    FittedTable,
    NewStep,
    Outcome,
    Pair,
    Report,
    Retrained,
    Search,
    StandaloneLabel,
    Step,
)
from worker.pipeline.search import run_step


def own_space(num_cells: int = 6) -> SearchSpace:
    """A chain of cells with three choices each: 3 ** num_cells architectures."""
    choices = [{"kind": "identity"}, {"kernel_size": 3, "expansion": 3}, {"kernel_size": 3, "expansion": 6}]
    return SearchSpace.model_validate(
        {
            "name": "own",
            "input_resolution": 16,
            "num_classes": 4,
            "stem": {"out_channels": 8, "stride": 1},
            "cells": [{"out_channels": 8, "choices": choices}] * num_cells,
            "head": {"out_channels": 16},
        }
    )


def make_search(**changes: Any) -> Search:
    """A search over 729 architectures in three rounds of two cells, or with some fields changed."""
    space = own_space()
    config = from_preset(
        "quick",
        {
            "segments": [[0, 1, 2], [3, 4, 5]],
            "num_sampled": 20,
            "num_held_out": 5,
            "num_reevaluated": 6,
            "num_preserved": 3,
            **changes,
        },
    )
    return Search("search", "digits", space, config.resolved(space))


def accuracy(architecture: Sequence[int]) -> float:
    """z: the more of every cell the better, with a little noise that belongs to the architecture."""
    text = "".join(map(str, architecture))
    noise = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return 0.4 + 0.4 * sum(architecture) / (2 * len(architecture)) + 0.05 * noise


def true_accuracy_of(architecture: Sequence[int]) -> float:
    """z*: what the supernet says, but for the last choice of even cells, which it holds in too high esteem."""
    return 0.3 + 0.6 * accuracy(architecture) - 0.05 * sum(choice == 2 for choice in architecture[::2])


@dataclass
class FormulaNetworks:
    """Networks without torch: accuracies from a formula, a least-squares fit of one weight per choice."""

    evaluated: list[Architecture] = field(default_factory=list)
    num_trained: int = 0
    fits: list[int] = field(default_factory=list)
    retrained: list[tuple[str, Retraining]] = field(default_factory=list)

    def train_supernet(self, search: Search, report: Report) -> Mapping[str, Any]:
        self.num_trained += 1
        report(1.0, {"epoch": search.config.epochs})
        return {"loss_curve": [2.0, 1.0]}

    def evaluate(self, search: Search, architectures: Sequence[Architecture], report: Report) -> list[float]:
        for done, architecture in enumerate(architectures):
            report(done / len(architectures), None)
            self.evaluated.append(architecture)
        return [accuracy(architecture) for architecture in architectures]

    def fit(
        self,
        search: Search,
        round_index: int,
        subspace: Subspace,
        index_N: npt.NDArray[np.int64],
        accuracy_N: npt.NDArray[np.float64],
        report: Report,
    ) -> Fit:
        assert index_N.dtype == np.int64
        assert len(set(index_N.tolist())) == len(index_N) == len(accuracy_N)
        self.fits.append(len(index_N))
        report(0.5, {"epoch": 1})

        def one_hot(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            digits = np.unravel_index(index, subspace.factor_sizes)
            return np.concatenate(
                [np.eye(size)[digit] for size, digit in zip(subspace.factor_sizes, digits, strict=True)], axis=1
            )

        weights = np.linalg.lstsq(one_hot(index_N), accuracy_N, rcond=None)[0]
        predicted = one_hot(np.arange(subspace.size)) @ weights
        return Fit(np.round(predicted, 6).astype(np.float32), {"final_loss": 0.0})

    def fit_space(self, search: Search, accuracies: Mapping[Architecture, float], report: Report) -> FittedSpace:
        report(0.5, {"epoch": 1})
        fitted = fit_additive(
            search.space.num_choices,
            np.array(sorted(accuracies)),
            np.array([accuracies[m] for m in sorted(accuracies)]),
        )
        model = prepared_model(BlendedPredictor(fitted.function), {}, search.config.seed)
        accuracy_N = [accuracies[m] for m in sorted(accuracies)]
        held_out = {
            "choices": sorted(accuracies),
            "predicted": fitted.left_out_N.tolist(),
            "additive": fitted.left_out_N.tolist(),
            "accuracy": accuracy_N,
            "stretch": [1.0] * len(accuracies),
        }
        figures = {"num_pairs": len(accuracies), "held_out_tau": kendall_tau(fitted.left_out_N, accuracy_N)}
        return FittedSpace(model, {**figures, "interval": None, "held_out": held_out})

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        report(0.5, {"epoch": 1})
        self.retrained.append((job_id, retraining))
        value = true_accuracy_of(search.space.parse_code(retraining.code))
        return Retrained(value, f"{job_id}/standalone", {"loss_curve": [1.0]})


@dataclass
class MemoryStore:
    """The Reader port, and what a store makes of outcomes."""

    subspaces: dict[int, Subspace] = field(default_factory=dict)
    stored_pairs: dict[tuple[int, PairSource], list[Pair]] = field(default_factory=dict)
    fitted: dict[int, FittedTable] = field(default_factory=dict)
    closed: dict[int, ClosedRound] = field(default_factory=dict)
    space: FittedSpace | None = None
    standalone: list[StandaloneLabel] = field(default_factory=list)
    done: bool = False

    def table(self, search: Search, round_index: int) -> LookupTable:
        return self.fitted[round_index].table

    def fit_report(self, search: Search, round_index: int) -> Mapping[str, Any]:
        return self.fitted[round_index].report

    def labels(self, search: Search) -> list[StandaloneLabel]:
        return sorted(self.standalone, key=lambda label: (label.round_index, label.code))

    def subspace(self, search: Search, round_index: int) -> Subspace:
        return self.subspaces[round_index]

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        return sorted(self.stored_pairs[round_index, source], key=lambda pair: pair.code)

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        predicted = self.fitted[round_index].table.predicted_accuracy
        return {index: float(predicted[index]) for index in subspace_indices}

    def store(self, step: Step, outcome: Outcome) -> None:
        if outcome.pairs:
            assert step.round_index is not None
            self.stored_pairs.setdefault((step.round_index, outcome.pair_source), []).extend(outcome.pairs)
        if outcome.fitted:
            assert step.round_index is not None
            self.fitted[step.round_index] = outcome.fitted
        if outcome.closed_round:
            assert step.round_index is not None
            self.closed[step.round_index] = outcome.closed_round
        if outcome.standalone:
            assert step.round_index is not None
            assert outcome.standalone.accuracy == outcome.result["standalone_accuracy"]
            code, accuracy = outcome.standalone.retraining.code, outcome.standalone.accuracy
            self.standalone.append(
                StandaloneLabel(step.round_index, code, accuracy, tuple(step.payload["predictions"]))
            )
        if outcome.opened_round:
            self.subspaces[outcome.opened_round.round_index] = outcome.opened_round.subspace
        if outcome.fitted_space:
            assert self.space is None
            self.space = outcome.fitted_space
        self.done |= outcome.search_done


def no_report(done: float, detail: Mapping[str, Any] | None) -> None:
    """Takes reports and lets the step go on."""
    assert 0.0 <= done <= 1.0


@dataclass
class Scheduler:
    """Runs a search to its end in this thread; ``pick`` says which of the ready steps comes next."""

    search: Search
    shard_size: int = 8
    pick: Callable[[int], int] = lambda num_ready: 0
    report: Report = no_report
    networks: FormulaNetworks = field(default_factory=FormulaNetworks)
    store: MemoryStore = field(default_factory=MemoryStore)
    ready: list[NewStep] = field(default_factory=lambda: [NewStep("train_supernet", None)])
    ran: list[Step] = field(default_factory=list)

    def run_one(self) -> Outcome:
        """Run one ready step and store what it gives."""
        position = self.pick(len(self.ready))
        new = self.ready[position]
        step = Step(len(self.ran), new.kind, new.round_index, new.shard_index, new.payload, attempt=1)
        outcome = run_step(self.search, step, self.networks, self.store, self.report, shard_size=self.shard_size)
        del self.ready[position]
        self.ran.append(step)
        self.store.store(step, outcome)
        self.ready.extend(outcome.next_steps)
        same_stage = [s for s in self.ready if (s.kind, s.round_index) == (new.kind, new.round_index)]
        if outcome.when_stage_done and not same_stage:
            self.ready.append(outcome.when_stage_done)
        return outcome

    def run(self, until: Callable[[NewStep], bool] = lambda step: False) -> "Scheduler":
        """Run until a step that ``until`` names is ready, or to the end."""
        while self.ready and not any(until(step) for step in self.ready):
            assert len(self.ran) < 10_000, "the search does not end"
            self.run_one()
        return self


@pytest.fixture
def schedule() -> Callable[..., Scheduler]:
    """Return a scheduler for a small search; arguments change its configuration."""

    def make(*, shard_size: int = 8, **changes: Any) -> Scheduler:
        return Scheduler(make_search(**changes), shard_size=shard_size)

    return make


@pytest.fixture
def true_accuracy() -> Callable[[Sequence[int]], float]:
    """The formula behind the synthetic networks."""
    return accuracy
