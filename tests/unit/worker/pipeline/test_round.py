"""One round: what is sampled, held out, fitted, re-evaluated and preserved, however the shards are cut."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.domain.rank_correlation import kendall_tau
from app.domain.rounds import first_subspace
from worker.pipeline.ports import NewStep, Step
from worker.pipeline.round import evaluate_shard, open_round, shard_steps
from worker.pipeline.search import run_step

if TYPE_CHECKING:
    from tests.unit.worker.pipeline.conftest import Scheduler

Schedule = Callable[..., "Scheduler"]


def is_kind(kind: str) -> Callable[[NewStep], bool]:
    return lambda step: step.kind == kind


class TestSampling:
    def test_distinct_and_within_the_subspace(self, schedule: Schedule) -> None:
        search = schedule().search
        subspace = first_subspace(search.space, search.config)
        opened, steps = open_round(search, 0, subspace, shard_size=8)
        codes = [code for step in steps for code in step.payload["codes"]]
        assert (opened.round_index, opened.subspace) == (0, subspace)
        assert len(codes) == len(set(codes)) == search.config.num_sampled == 20
        indices = {subspace.index(search.space.parse_code(code)) for code in codes}
        assert len(indices) == 20

    def test_held_out_are_a_part_of_the_sampled(self, schedule: Schedule) -> None:
        search = schedule().search
        _, steps = open_round(search, 0, first_subspace(search.space, search.config), shard_size=6)
        held_out = [code for step in steps for code in step.payload["held_out"]]
        assert len(held_out) == len(set(held_out)) == 5
        assert all(set(step.payload["held_out"]) <= set(step.payload["codes"]) for step in steps)

    def test_the_whole_subspace_can_be_sampled(self, schedule: Schedule) -> None:
        search = schedule(num_sampled=27).search
        _, steps = open_round(search, 0, first_subspace(search.space, search.config), shard_size=100)
        assert len(steps[0].payload["codes"]) == 27

    def test_depends_on_seed_and_round_only(self, schedule: Schedule) -> None:
        search, other = schedule().search, schedule(seed=1).search
        subspace = first_subspace(search.space, search.config)
        assert open_round(search, 0, subspace, 8) == open_round(search, 0, subspace, 8)
        assert open_round(search, 0, subspace, 8)[1] != open_round(search, 1, subspace, 8)[1]
        assert open_round(search, 0, subspace, 8)[1] != open_round(other, 0, subspace, 8)[1]

    @pytest.mark.parametrize("shard_size", [1, 3, 7, 19, 20, 1000])
    def test_shards_do_not_change_what_is_sampled_or_held_out(self, schedule: Schedule, shard_size: int) -> None:
        search = schedule().search
        subspace = first_subspace(search.space, search.config)
        (whole,) = open_round(search, 0, subspace, shard_size=20)[1]
        steps = open_round(search, 0, subspace, shard_size)[1]
        assert [code for step in steps for code in step.payload["codes"]] == whole.payload["codes"]
        assert [code for step in steps for code in step.payload["held_out"]] == whole.payload["held_out"]
        assert [step.shard_index for step in steps] == list(range(len(steps)))
        assert all(1 <= len(step.payload["codes"]) <= shard_size for step in steps)


class TestEvaluation:
    def test_pairs_belong_to_their_architectures(
        self, schedule: Schedule, true_accuracy: Callable[[Sequence[int]], float]
    ) -> None:
        scheduler = schedule(shard_size=6).run(is_kind("fit_gcn"))
        pairs = scheduler.store.pairs(scheduler.search, 0, "sampled")
        assert len(pairs) == 20
        assert all(p.accuracy == true_accuracy(scheduler.search.space.parse_code(p.code)) for p in pairs)
        assert sum(p.held_out for p in pairs) == 5

    @pytest.mark.parametrize(
        ("kind", "source", "following"),
        [("evaluate_shard", "sampled", "fit_gcn"), ("reevaluate_shard", "reevaluated", "advance")],
    )
    def test_both_kinds_of_shards(self, schedule: Schedule, kind: Any, source: str, following: str) -> None:
        scheduler = schedule()
        step = Step(1, kind, 2, 0, {"codes": ["000000", "222222"], "held_out": ["222222"]}, 1)
        outcome = evaluate_shard(scheduler.search, step, scheduler.networks, scheduler.report)
        assert outcome.pair_source == source
        assert [(p.code, p.held_out) for p in outcome.pairs] == [("000000", False), ("222222", True)]
        assert outcome.when_stage_done == NewStep(following, 2)  # type: ignore[arg-type]  # parametrised
        assert outcome.next_steps == ()
        assert outcome.result == {"num_pairs": 2, "best_accuracy": max(p.accuracy for p in outcome.pairs)}

    def test_shard_steps_of_nothing(self, schedule: Schedule) -> None:
        assert shard_steps(schedule().search, "reevaluate_shard", 0, [], 8) == ()


class TestFit:
    def test_held_out_pairs_are_not_fitted_but_judge_the_fit(self, schedule: Schedule) -> None:
        scheduler = schedule().run(is_kind("reevaluate_shard"))
        search, store = scheduler.search, scheduler.store
        assert scheduler.networks.fits == [15]
        fitted = store.fitted[0]
        held_out = [p for p in store.pairs(search, 0, "sampled") if p.held_out]
        predicted = [
            fitted.table.predicted_accuracy[store.subspaces[0].index(search.space.parse_code(p.code))] for p in held_out
        ]
        assert fitted.held_out_tau == kendall_tau(predicted, [p.accuracy for p in held_out])
        figures = {"final_loss": 0.0, "num_fitted": 15, "num_held_out": 5}
        assert {name: fitted.report[name] for name in figures} == figures
        assert fitted.table.num_rows == 27

    @pytest.mark.parametrize("shard_size", [1, 4, 100])
    def test_the_top_of_the_table_is_evaluated_again(self, schedule: Schedule, shard_size: int) -> None:
        scheduler = schedule(shard_size=shard_size).run(is_kind("reevaluate_shard"))
        table = scheduler.store.fitted[0].table
        again = [code for step in scheduler.ready for code in step.payload["codes"]]
        assert sorted(again) == sorted(table.subspace.codes(table.top(6)))
        assert all(step.kind == "reevaluate_shard" for step in scheduler.ready)
        assert "held_out" not in scheduler.ready[0].payload

    def test_a_subspace_smaller_than_num_reevaluated_is_evaluated_whole(self, schedule: Schedule) -> None:
        scheduler = schedule(num_reevaluated=27).run(is_kind("reevaluate_shard"))
        assert sum(len(step.payload["codes"]) for step in scheduler.ready) == 27

    def test_a_predictor_that_diverged_says_what_to_do(
        self, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = schedule().run(is_kind("fit_gcn"))
        fit = scheduler.networks.fit

        def diverged(*args: Any) -> Any:
            return type(fit(*args))(np.full(27, np.nan, dtype=np.float32), {})

        monkeypatch.setattr(scheduler.networks, "fit", diverged)
        with pytest.raises(ValueError, match="lower gcn_learning_rate"):
            scheduler.run_one()


class TestAdvance:
    def test_preserved_are_the_best_of_the_reevaluated_in_order(self, schedule: Schedule) -> None:
        scheduler = schedule(preserve_by="reevaluated").run(is_kind("advance"))
        outcome = scheduler.run_one()
        pairs = scheduler.store.pairs(scheduler.search, 0, "reevaluated")
        best_first = sorted(pairs, key=lambda pair: -pair.accuracy)
        assert outcome.closed_round is not None
        assert outcome.closed_round.preserved == tuple(pair.code for pair in best_first[:3])
        assert outcome.closed_round.best_code == best_first[0].code
        assert outcome.closed_round.best_accuracy == best_first[0].accuracy

    def test_preserved_architectures_are_the_next_rounds_super_cell(self, schedule: Schedule) -> None:
        scheduler = schedule().run(is_kind("advance"))
        outcome = scheduler.run_one()
        assert outcome.closed_round is not None
        assert outcome.opened_round is not None
        assert outcome.opened_round.round_index == 1
        subspace = outcome.opened_round.subspace
        assert subspace.segment == (3, 4, 5)
        assert subspace.super_cell is not None
        assert subspace.super_cell.cell_indices == (0, 1, 2)
        assert subspace.super_cell.choices == tuple(
            tuple(map(int, code[:3])) for code in outcome.closed_round.preserved
        )
        assert all(subspace.index(scheduler.search.space.parse_code(c)) >= 0 for c in outcome.closed_round.preserved)
        assert {step.round_index for step in outcome.next_steps} == {1}
        assert {step.kind for step in outcome.next_steps} == {"evaluate_shard"}

    def test_equal_accuracies_follow_the_prediction(self, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
        scheduler = schedule()
        monkeypatch.setattr(scheduler.networks, "evaluate", lambda search, ms, report: [0.5] * len(ms))
        scheduler.run(is_kind("advance"))
        table = scheduler.store.fitted[0].table
        outcome = scheduler.run_one()
        assert outcome.closed_round is not None
        assert list(outcome.closed_round.preserved) == table.subspace.codes(table.top(3))
        assert scheduler.store.fitted[0].held_out_tau is None

    def test_the_last_round_ends_the_search(self, schedule: Schedule) -> None:
        scheduler = schedule().run(lambda step: step.kind == "advance" and step.round_index == 1)
        outcome = scheduler.run_one()
        assert outcome.search_done
        assert outcome.opened_round is None
        assert outcome.next_steps == ()
        assert outcome.closed_round is not None


def test_a_step_can_run_again_and_gives_the_same(schedule: Schedule) -> None:
    """A worker may die after any step: nothing of it depends on how often it ran."""
    scheduler = schedule()
    while scheduler.ready:
        new = scheduler.ready[0]
        step = Step(0, new.kind, new.round_index, new.shard_index, new.payload, attempt=1)
        before = run_step(scheduler.search, step, scheduler.networks, scheduler.store, scheduler.report, shard_size=8)
        after = scheduler.run_one()
        assert (before.pairs, before.next_steps, before.closed_round) == (
            after.pairs,
            after.next_steps,
            after.closed_round,
        )
        if before.fitted and after.fitted:
            assert before.fitted.table.digest() == after.fitted.table.digest()
