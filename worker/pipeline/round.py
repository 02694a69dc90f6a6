"""One round of Algorithm 1: sample and evaluate (step 1), fit and publish (2), re-evaluate and advance (3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.domain import rounds, seeds
from app.domain.lookup_table import LookupTable
from app.domain.rounds import Reevaluated
from app.domain.search_space import Architecture
from app.domain.steps import PairSource, StepKind
from app.domain.subspace import Subspace
from worker.nas.sampling import sample_distinct
from worker.nas.trie import shard
from worker.pipeline import standalone_labels
from worker.pipeline.fit_quality import judge
from worker.pipeline.ports import (
    ClosedRound,
    FittedTable,
    Networks,
    NewStep,
    OpenedRound,
    Outcome,
    Pair,
    Reader,
    Report,
    Search,
    Step,
)


def open_round(
    search: Search, round_index: int, subspace: Subspace, shard_size: int
) -> tuple[OpenedRound, tuple[NewStep, ...]]:
    """Begin a round: sample ``num_sampled`` distinct architectures of S_t uniformly, and cut them into shards.

    Which of them are held out is drawn here as well, so that it does not depend on the shards.
    """
    config = search.config
    index_N = sample_distinct(subspace.size, config.num_sampled, seeds.generator(config.seed, round_index, "sampling"))
    codes = sorted(subspace.codes(index_N))
    held_out = set(seeds.generator(config.seed, round_index, "held_out").choice(codes, config.held_out, replace=False))
    architectures = [search.space.parse_code(code) for code in codes]
    steps = shard_steps(search, "evaluate_shard", round_index, architectures, shard_size)
    marked = tuple(
        NewStep(step.kind, step.round_index, step.shard_index, {**step.payload, "held_out": _common(step, held_out)})
        for step in steps
    )
    return OpenedRound(round_index, subspace), marked


def _common(step: NewStep, codes: set[str]) -> list[str]:
    return [code for code in step.payload["codes"] if code in codes]


def shard_steps(
    search: Search, kind: StepKind, round_index: int, architectures: Sequence[Architecture], shard_size: int
) -> tuple[NewStep, ...]:
    """Cut architectures into evaluation steps of up to ``shard_size``."""
    return tuple(
        NewStep(kind, round_index, shard_index, {"codes": [search.space.code(m) for m in part]})
        for shard_index, part in enumerate(shard(architectures, shard_size))
    )


def evaluate_shard(search: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Evaluate a shard of sub-networks: the sampled ones of step 1, or those that step 3 evaluates again."""
    assert step.round_index is not None
    codes: list[str] = list(step.payload["codes"])
    held_out = set(step.payload.get("held_out", ()))
    accuracies = networks.evaluate(search, [search.space.parse_code(code) for code in codes], report)
    pairs = tuple(Pair(code, z, code in held_out) for code, z in zip(codes, accuracies, strict=True))
    source: PairSource = "sampled" if step.kind == "evaluate_shard" else "reevaluated"
    following: StepKind = "fit_gcn" if step.kind == "evaluate_shard" else "advance"
    if step.kind == "reevaluate_shard" and step.round_index == len(rounds.round_segments(search.config)) - 1:
        following = "fit_space"
    return Outcome(
        pairs=pairs,
        pair_source=source,
        when_stage_done=NewStep(following, step.round_index),
        result={"num_pairs": len(pairs), "best_accuracy": max(accuracies)},
    )


def fit_gcn(search: Search, step: Step, networks: Networks, reader: Reader, report: Report, shard_size: int) -> Outcome:
    """Fit the predictor to the round's pairs, judge it on the held-out ones, and publish the whole table."""
    assert step.round_index is not None
    subspace = reader.subspace(search, step.round_index)
    pairs = reader.pairs(search, step.round_index, "sampled")
    fitted, held_out = [p for p in pairs if not p.held_out], [p for p in pairs if p.held_out]
    fit = networks.fit(
        search,
        step.round_index,
        subspace,
        np.array([subspace.index(search.space.parse_code(p.code)) for p in fitted], dtype=np.int64),
        np.array([p.accuracy for p in fitted]),
        report,
    )
    table = LookupTable.from_predictions(subspace, fit.predicted_accuracy)
    tau, figures = judge(subspace, fit, fitted, held_out)
    following = (
        standalone_labels.label_steps(search, step.round_index, table, pairs, reader.labels(search), report)
        if search.config.num_standalone
        else _reevaluation(search, table, step.round_index, reader, shard_size)
    )
    return Outcome(fitted=FittedTable(table, tau, figures), next_steps=following, result={"held_out_tau": tau})


def correct(search: Search, step: Step, reader: Reader, report: Report, shard_size: int) -> Outcome:
    """Publish the round's table as its true labels say, and evaluate its top again."""
    assert step.round_index is not None
    fitted = standalone_labels.correct_predictions(search, step, reader, report)
    return Outcome(
        fitted=fitted,
        next_steps=_reevaluation(search, fitted.table, step.round_index, reader, shard_size),
        result={"held_out_tau": fitted.held_out_tau, "standalone_tau": fitted.report["standalone"]["tau"]},
    )


def _reevaluation(
    search: Search, table: LookupTable, round_index: int, reader: Reader, shard_size: int
) -> tuple[NewStep, ...]:
    """Evaluate the top of the table again, and M_{t-1}* with it: no round ends below what an earlier one found."""
    rows = rounds.reevaluation_candidates(table, search.config, round_index)
    top = [tuple(row) for row in table.subspace.architectures(rows).tolist()]
    before = _best_before(search, table.subspace, round_index, reader)
    if before is not None and before not in top:
        top.append(before)
    return shard_steps(search, "reevaluate_shard", round_index, top, shard_size)


def _best_before(search: Search, subspace: Subspace, round_index: int, reader: Reader) -> Architecture | None:
    """Return the best that the round before evaluated again and S_t holds; its preserved ones all lie in S_t."""
    if not round_index:
        return None
    pairs = sorted(reader.pairs(search, round_index - 1, "reevaluated"), key=lambda pair: -pair.accuracy)
    architectures = (search.space.parse_code(pair.code) for pair in pairs)
    return next((architecture for architecture in architectures if architecture in subspace), None)


def fit_space(search: Search, step: Step, networks: Networks, reader: Reader, report: Report) -> Outcome:
    """Fit a predictor of the whole space to the pairs of all rounds, once the last round has evaluated its own."""
    assert step.round_index is not None
    sources: tuple[PairSource, ...] = ("sampled", "reevaluated")
    accuracies = {
        search.space.parse_code(pair.code): pair.accuracy
        for round_index in range(step.round_index + 1)
        for source in sources
        for pair in reader.pairs(search, round_index, source)
    }
    fitted = networks.fit_space(search, accuracies, report)
    if search.config.num_standalone:
        fitted = standalone_labels.corrected_space(search, fitted, reader.labels(search))
    return Outcome(fitted_space=fitted, next_steps=(NewStep("advance", step.round_index),), result=fitted.report)


def advance(search: Search, step: Step, reader: Reader, shard_size: int) -> Outcome:
    """Close a round: preserve its best re-evaluated architectures, and open the next one or end the search."""
    assert step.round_index is not None
    subspace = reader.subspace(search, step.round_index)
    pairs = {
        subspace.index(search.space.parse_code(pair.code)): pair
        for pair in reader.pairs(search, step.round_index, "reevaluated")
    }
    predicted = reader.predictions(search, step.round_index, list(pairs))
    reevaluated = [
        Reevaluated(index, search.space.parse_code(pair.code), predicted[index], pair.accuracy)
        for index, pair in pairs.items()
    ]
    budgets = rounds.round_budgets(search.space, search.config, step.round_index)
    weight = 1.0
    if search.config.weighs_errors:
        accuracies = {pair.code: pair.accuracy for pair in pairs.values()}
        weight = standalone_labels.reevaluation_weight(search, step.round_index, reader, accuracies)
    preserved = rounds.select_preserved(reevaluated, search.config.num_preserved, budgets, weight)
    codes = tuple(search.space.code(r.architecture) for r in preserved)
    closed = ClosedRound(codes[0], preserved[0].sampled_accuracy, codes)
    following = rounds.next_subspace(search.space, search.config, step.round_index, [r.architecture for r in preserved])
    result: dict[str, Any] = {"best_code": codes[0], "best_accuracy": preserved[0].sampled_accuracy}
    if search.config.weighs_errors:
        result["reevaluation_weight"] = round(weight, 4)
    if following is None:
        return Outcome(closed_round=closed, search_done=True, result=result)
    opened, steps = open_round(search, step.round_index + 1, following, shard_size)
    return Outcome(closed_round=closed, opened_round=opened, next_steps=steps, result=result)
