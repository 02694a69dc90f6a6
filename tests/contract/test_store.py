"""What the store promises, on real PostgreSQL: exclusive claims, fencing, outcomes all or nothing."""

import datetime as dt
import math
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from app.db import binary_copy, operations
from app.db import tables as tables_db
from app.db.engine import transaction
from app.db.models import PairRow, SearchRow, SpaceModelRow, StepRow
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.model import BlendedPredictor, WholeSpaceModel
from app.domain.whole_space.model_bytes import to_bytes
from worker.pipeline.ports import (
    ClosedRound,
    FittedSpace,
    FittedTable,
    LeaseLostError,
    NewStep,
    OpenedRound,
    Outcome,
    Pair,
)
from worker.store import Claim

if TYPE_CHECKING:
    from tests.contract.conftest import World

Make = Callable[..., Outcome]
FIT = NewStep("fit_gcn", 0)


class TestClaim:
    def test_gives_the_step_and_its_search(self, world: "World") -> None:
        search_id = world.search()
        step_id = world.step(search_id, payload={"codes": ["01"]}, shard_index=3)
        claim = world.claimed(step_id, "host:1/7")
        assert (claim.step.id, claim.step.kind, claim.step.round_index) == (step_id, "evaluate_shard", 0)
        assert (claim.step.shard_index, claim.step.payload, claim.step.attempt) == (3, {"codes": ["01"]}, 1)
        assert (claim.search.id, claim.search.dataset) == (str(search_id), "digits")
        assert claim.search.space.name == "nas-bench-macro"
        assert claim.search.config.num_sampled == 20
        row = world.state(step_id)
        assert (row.state, row.worker) == ("leased", "host:1/7")
        assert row.lease_expires_at is not None
        assert row.started_at is not None
        assert row.lease_expires_at - row.started_at == dt.timedelta(seconds=60)

    def test_makes_the_search_run(self, world: "World") -> None:
        search_id = world.search()
        world.claimed(world.step(search_id))
        first = world.search_row(search_id)
        assert first.state == "running"
        assert first.started_at is not None
        world.claimed(world.step(search_id, shard_index=1))
        assert world.search_row(search_id).started_at == first.started_at

    def test_is_exclusive(self, world: "World") -> None:
        """Eight workers race for each of ten steps: each step goes to one of them, once."""
        search_id = world.search()
        step_ids = [world.step(search_id, shard_index=i) for i in range(10)]
        barrier = Barrier(8)

        def race(worker: int) -> list[int]:
            barrier.wait()
            claims = [world.store.claim(step_id, f"host:{worker}/1") for step_id in step_ids]
            return [claim.step.id for claim in claims if claim is not None]

        with ThreadPoolExecutor(8) as threads:
            won = [step_id for ids in threads.map(race, range(8)) for step_id in ids]
        assert sorted(won) == step_ids
        assert {step.attempt for step in world.steps(search_id)} == {1}

    @pytest.mark.parametrize("state", ["cancelling", "cancelled", "failed", "succeeded"])
    def test_not_of_a_search_that_is_over(self, world: "World", state: str) -> None:
        step_id = world.step(world.search(state))
        assert world.store.claim(step_id, "w/1") is None
        assert (world.state(step_id).state, world.state(step_id).attempt) == ("ready", 0)

    @pytest.mark.parametrize("state", ["leased", "done", "failed"])
    def test_not_of_a_step_that_is_not_ready(self, world: "World", state: str) -> None:
        assert world.store.claim(world.step(world.search("running"), state=state), "w/1") is None

    def test_not_of_a_step_that_is_not_there(self, world: "World") -> None:
        assert world.store.claim(10**9, "w/1") is None

    def test_a_search_that_cannot_be_read_fails_instead_of_being_woken_for_ever(self, world: "World") -> None:
        search_id = world.search(config={"from": "the future"})
        step_id = world.step(search_id)
        assert world.store.claim(step_id, "w/1") is None
        search = world.search_row(search_id)
        assert search.state == "failed"
        assert search.error is not None
        assert "cannot read the stored search" in search.error
        assert world.state(step_id).state == "failed"
        assert world.reap(rewake_s=0.0) == []


class TestFencing:
    @pytest.fixture
    def stale(self, world: "World") -> Claim:
        """The claim of a worker that was silent for too long, and whose step another one has by now."""
        claim = world.claimed(world.step(world.search()), "silent/1")
        world.let_lease_run_out(claim.step.id)
        world.reap()
        assert world.claimed(claim.step.id, "quick/1").step.attempt == claim.step.attempt + 1
        return claim

    def test_cannot_complete(self, world: "World", stale: Claim, pairs_outcome: Make) -> None:
        before = world.stored()
        with pytest.raises(LeaseLostError, match="attempt 1 was fenced off"):
            world.store.complete(stale, pairs_outcome("00000000", when_stage_done=FIT))
        assert world.stored() == before
        assert world.state(stale.step.id).state == "leased"

    def test_cannot_fail(self, world: "World", stale: Claim) -> None:
        world.store.fail(stale, "no memory")
        assert world.state(stale.step.id).state == "leased"
        assert world.search_row(uuid.UUID(stale.search.id)).state == "running"

    def test_cannot_put_off(self, world: "World", stale: Claim) -> None:
        before = world.state(stale.step.id)
        world.store.put_off(stale, "the disk is full", 3)
        after = world.state(stale.step.id)
        assert (after.state, after.attempt, after.failures) == (before.state, before.attempt, before.failures)

    def test_cannot_hand_back(self, world: "World", stale: Claim) -> None:
        assert world.store.hand_back(stale) is False
        assert world.state(stale.step.id).worker == "quick/1"

    def test_cannot_renew(self, world: "World", stale: Claim) -> None:
        before = world.state(stale.step.id).lease_expires_at
        assert world.store.heartbeat(stale, 0.9, None) == "lost"
        after = world.state(stale.step.id)
        assert (after.lease_expires_at, after.progress) == (before, 0.0)

    def test_nor_while_nobody_has_the_step(self, world: "World", pairs_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search()))
        world.let_lease_run_out(claim.step.id)
        world.reap()
        assert world.store.heartbeat(claim, 0.5, None) == "lost"
        with pytest.raises(LeaseLostError):
            world.store.complete(claim, pairs_outcome("00000000"))

    def test_a_late_worker_that_nobody_replaced_may_complete(self, world: "World", pairs_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search()))
        world.let_lease_run_out(claim.step.id)
        world.store.complete(claim, pairs_outcome("00000000"))
        assert world.state(claim.step.id).state == "done"

    def test_of_a_search_that_was_deleted(self, world: "World", pairs_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search()))
        with transaction(world.engine) as session:
            session.delete(session.get_one(SearchRow, uuid.UUID(claim.search.id)))
        assert world.store.heartbeat(claim, 0.5, None) == "lost"
        with pytest.raises(LeaseLostError):
            world.store.complete(claim, pairs_outcome("00000000"))


class TestHeartbeat:
    def test_renews_and_reports(self, world: "World") -> None:
        claim = world.claimed(world.step(world.search()))
        world.change(claim.step.id, lease_expires_at=dt.datetime.now(dt.UTC))
        assert world.store.heartbeat(claim, 0.25, {"epoch": 3, "loss": 1.5}) == "go"
        row = world.state(claim.step.id)
        assert (row.progress, row.detail) == (0.25, {"epoch": 3, "loss": 1.5})
        assert row.lease_expires_at is not None
        assert row.lease_expires_at > dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)

    def test_a_loss_that_is_not_a_number(self, world: "World") -> None:
        """JSON has no NaN, and PostgreSQL refuses it: a training that diverges must not end the heartbeats."""
        claim = world.claimed(world.step(world.search()))
        detail = {"loss": math.nan, "losses": [1.0, math.inf], "last": {"loss": -math.inf}, "epoch": 1}
        assert world.store.heartbeat(claim, 0.5, detail) == "go"
        assert world.state(claim.step.id).detail == {
            "loss": None,
            "losses": [1.0, None],
            "last": {"loss": None},
            "epoch": 1,
        }

    def test_tells_of_a_cancellation(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id))
        world.cancel(search_id)
        assert world.store.heartbeat(claim, 0.5, None) == "cancel"

    def test_goes_on_while_another_shard_has_failed(self, world: "World") -> None:
        search_id = world.search()
        claim, other = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.store.fail(other, "corrupt image")
        assert world.store.heartbeat(claim, 0.5, None) == "go"


def space_model(level: float) -> WholeSpaceModel:
    """A model of a whole space that predicts one accuracy everywhere."""
    return prepared_model(BlendedPredictor(AdditiveFunction(level, (np.zeros(3),) * 8)), {}, seed=0)


class TestComplete:
    def test_stores_everything_of_an_outcome(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "advance"))
        following = Subspace.following(claim.search.space, [(2,) * 8], (4, 5, 6, 7))
        outcome = Outcome(
            pairs=(Pair("00000000", 0.25, True), Pair("00000001", 0.5)),
            fitted=FittedTable(world.table(), 0.75, {"final_loss": 0.1}),
            closed_round=ClosedRound("00000001", 0.5, ("00000001", "00000000")),
            opened_round=OpenedRound(1, following),
            fitted_space=FittedSpace(space_model(0.5), {"num_pairs": 2}),
            next_steps=(NewStep("evaluate_shard", 1, 0, {"codes": ["1"]}), NewStep("evaluate_shard", 1, 1)),
            result={"seconds": 1.5},
        )
        step_ids = world.store.complete(claim, outcome)
        done, *new = world.steps(search_id)
        assert (done.state, done.progress, done.result, done.lease_expires_at) == ("done", 1.0, {"seconds": 1.5}, None)
        assert done.finished_at is not None
        assert [step.id for step in new] == step_ids
        assert [(s.kind, s.round_index, s.shard_index, s.state, s.payload) for s in new] == [
            ("evaluate_shard", 1, 0, "ready", {"codes": ["1"]}),
            ("evaluate_shard", 1, 1, "ready", {}),
        ]
        closed = world.round_row(search_id)
        assert (closed.held_out_tau, closed.fit_report) == (0.75, {"final_loss": 0.1})
        assert (closed.best_code, closed.best_accuracy) == ("00000001", 0.5)
        assert closed.preserved == ["00000001", "00000000"]
        assert closed.finished_at is not None
        # the Reader port
        assert world.store.subspace(claim.search, 1) == following
        assert world.store.pairs(claim.search, 0, "sampled") == list(outcome.pairs)
        assert world.store.pairs(claim.search, 0, "reevaluated") == []
        predicted = world.store.predictions(claim.search, 0, [3, 80, 7])
        expected = world.table().predicted_accuracy
        assert {i: np.float32(p) for i, p in predicted.items()} == {i: expected[i] for i in (3, 80, 7)}
        with world.session() as session:
            (space,) = session.scalars(select(SpaceModelRow))
            assert (space.search_id, space.model, space.report) == (
                search_id,
                to_bytes(space_model(0.5)),
                {"num_pairs": 2},
            )
        assert world.search_row(search_id).state == "running"

    def test_a_whole_space_that_is_fitted_anew_takes_the_old_ones_place(self, world: "World") -> None:
        search_id = world.search()
        for shard_index, level in enumerate((0.25, 0.75)):
            claim = world.claimed(world.step(search_id, "fit_space", shard_index=shard_index))
            world.store.complete(claim, Outcome(fitted_space=FittedSpace(space_model(level), {})))
        with world.session() as session:
            (space,) = session.scalars(select(SpaceModelRow))
            assert (space.model, space.id) == (to_bytes(space_model(0.75)), 2), (
                "whoever kept the old one must not take it for this"
            )

    def test_counts_what_was_done_once(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        train, evaluate = world.step(search_id, "train_supernet"), world.step(search_id)
        world.store.complete(world.claimed(train), Outcome(result={"images_per_s": 40.0, "seconds": 2.5}))
        claim, outcome = world.claimed(evaluate), pairs_outcome("00000000", "00000001")
        for _ in range(2):
            world.store.complete(claim, outcome)
        with transaction(world.engine) as session:
            assert operations.counters(session) == {
                ("steps_done", "train_supernet"): 1,
                ("training_images", "train_supernet"): 100,
                ("steps_done", "evaluate_shard"): 1,
                ("evaluations", "evaluate_shard"): 2,
            }

    def test_the_last_step_ends_the_search(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "advance"))
        world.store.complete(claim, Outcome(closed_round=ClosedRound("0" * 8, 0.5, ("0" * 8,)), search_done=True))
        search = world.search_row(search_id)
        assert (search.state, search.final_code, search.final_accuracy) == ("succeeded", "0" * 8, 0.5)
        assert search.finished_at is not None

    def test_a_fit_that_diverged_is_stored(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "fit_gcn"))
        fitted = FittedTable(world.table(), None, {"final_loss": math.nan})
        world.store.complete(claim, Outcome(fitted=fitted, result={"held_out_tau": math.nan}))
        assert world.round_row(search_id).fit_report == {"final_loss": None}
        assert world.steps(search_id)[0].result == {"held_out_tau": None}

    def test_is_all_or_nothing(self, world: "World", fitted_outcome: Make) -> None:
        """The last of many writes fails (a step that is there already): not one row of the others is left."""
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "fit_gcn"))
        world.step(search_id, "reevaluate_shard")
        before = world.stored()
        outcome = fitted_outcome(pairs=(Pair("00000000", 0.5),), next_steps=(NewStep("reevaluate_shard", 0),))
        with pytest.raises(IntegrityError):
            world.store.complete(claim, outcome)
        assert world.stored() == before
        assert world.state(claim.step.id).state == "leased"
        assert world.round_row(search_id).fit_report is None
        # the worker can still say so
        world.store.fail(claim, "twice the same step")
        assert world.search_row(search_id).error == "twice the same step"

    def test_an_error_in_the_middle_of_copy_leaves_nothing(
        self, world: "World", fitted_outcome: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))
        before = world.stored()
        monkeypatch.setattr(binary_copy, "TRAILER", b"\x00\x63")
        with pytest.raises(Exception, match=r"COPY|format|field count"):
            world.store.complete(claim, fitted_outcome())
        assert world.stored() == before

    def test_pairs_are_stored_once(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        first, second = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.store.complete(first, Outcome(pairs=(Pair("00000000", 0.5),)))
        world.store.complete(second, Outcome(pairs=(Pair("00000000", 0.75), Pair("00000001", 0.25))))
        assert [(p.code, p.accuracy) for p in world.store.pairs(first.search, 0, "sampled")] == [
            ("00000000", 0.5),
            ("00000001", 0.25),
        ]

    def test_reevaluated_pairs_are_kept_beside_the_sampled(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        world.store.complete(world.claimed(world.step(search_id)), pairs_outcome("00000000"))
        again = world.claimed(world.step(search_id, "reevaluate_shard"))
        world.store.complete(again, pairs_outcome("00000000", pair_source="reevaluated"))
        assert world.count(PairRow) == 2

    def test_pairs_are_read_in_the_order_of_their_codes(self, world: "World", pairs_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search()))
        codes = ["21000000", "00000000", "10000000", "02000000"]
        world.store.complete(claim, pairs_outcome(*codes))
        assert [pair.code for pair in world.store.pairs(claim.search, 0, "sampled")] == sorted(codes)

    def test_a_stage_is_done_with_its_last_shard(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        claims = [world.claimed(world.step(search_id, shard_index=i)) for i in range(3)]
        # another round's shards and the re-evaluation's do not count
        world.step(search_id, "evaluate_shard", 9, round_index=1)
        world.step(search_id, "reevaluate_shard")
        for position, claim in enumerate(claims):
            step_ids = world.store.complete(claim, pairs_outcome(f"0000000{position}", when_stage_done=FIT))
            assert len(step_ids) == (position == 2)
        assert [step.kind for step in world.steps(search_id)].count("fit_gcn") == 1

    @pytest.mark.parametrize("attempt", range(3))
    def test_shards_that_end_at_the_same_time_make_one_following_step(
        self, world: "World", pairs_outcome: Make, attempt: int
    ) -> None:
        search_id = world.search()
        claims = [world.claimed(world.step(search_id, shard_index=i)) for i in range(8)]
        barrier = Barrier(8)

        def finish(position: int) -> list[int]:
            barrier.wait()
            return world.store.complete(claims[position], pairs_outcome(f"0000000{position}", when_stage_done=FIT))

        with ThreadPoolExecutor(8) as threads:
            step_ids = [step_id for ids in threads.map(finish, range(8)) for step_id in ids]
        assert len(step_ids) == 1
        assert [step.kind for step in world.steps(search_id)].count("fit_gcn") == 1
        assert len(world.store.pairs(claims[0].search, 0, "sampled")) == 8

    def test_a_completion_whose_answer_was_lost_can_be_repeated(self, world: "World", fitted_outcome: Make) -> None:
        """PostgreSQL restarts between the commit and its acknowledgement: the worker asks again."""
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "fit_gcn"))
        outcome = fitted_outcome(pairs=(Pair("00000000", 0.5),), next_steps=(NewStep("reevaluate_shard", 0),))
        first = world.store.complete(claim, outcome)
        before = world.stored()
        assert world.store.complete(claim, outcome) == first
        assert world.stored() == before

    def test_a_table_that_cannot_be_vacuumed_is_stored_all_the_same(
        self, world: "World", fitted_outcome: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))

        def vacuum(engine: Engine) -> None:
            with engine.connect() as connection:
                connection.exec_driver_sql("VACUUM nowhere")

        monkeypatch.setattr(tables_db, "vacuum", vacuum)
        assert len(world.store.complete(claim, fitted_outcome(next_steps=(NewStep("reevaluate_shard", 0),)))) == 1


class TestFail:
    def test_the_search_fails_with_the_reason_and_keeps_its_pairs(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        claims = [world.claimed(world.step(search_id, shard_index=i)) for i in range(3)]
        world.store.complete(claims[0], pairs_outcome("00000000"))
        world.store.fail(claims[1], "evaluate_shard of round 0: a corrupt image")
        search = world.search_row(search_id)
        assert (search.state, search.error) == ("failed", "evaluate_shard of round 0: a corrupt image")
        assert search.finished_at is not None
        failed = world.state(claims[1].step.id)
        assert (failed.state, failed.error) == ("failed", "evaluate_shard of round 0: a corrupt image")
        # what others found is still taken
        world.store.complete(claims[2], pairs_outcome("00000002", when_stage_done=FIT))
        assert world.count(PairRow) == 2
        assert "fit_gcn" not in {step.kind for step in world.steps(search_id)}

    def test_the_first_reason_stays(self, world: "World") -> None:
        search_id = world.search()
        claims = [world.claimed(world.step(search_id, shard_index=i)) for i in range(2)]
        world.store.fail(claims[0], "first")
        world.store.fail(claims[1], "second")
        assert world.search_row(search_id).error == "first"
        assert world.state(claims[1].step.id).error == "second"
        assert world.resume(search_id) == [claim.step.id for claim in claims]

    def test_resume_goes_on_where_it_failed(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        good, bad = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.store.fail(bad, "no memory")
        world.store.complete(good, pairs_outcome("00000000", when_stage_done=FIT))
        assert world.resume(search_id) == [bad.step.id]
        search = world.search_row(search_id)
        assert (search.state, search.error, search.finished_at) == ("running", None, None)
        again = world.claimed(bad.step.id)
        assert again.step.attempt == bad.step.attempt + 1
        (fit_id,) = world.store.complete(again, pairs_outcome("00000001", when_stage_done=FIT))
        assert world.state(fit_id).kind == "fit_gcn"


def test_every_step_of_a_round_is_there_once(world: "World") -> None:
    search_id = world.search()
    world.step(search_id, "train_supernet")
    with pytest.raises(IntegrityError, match="steps_once"):
        world.step(search_id, "train_supernet")
    world.step(search_id)
    with pytest.raises(IntegrityError, match="steps_once"):
        world.step(search_id)
    assert world.count(StepRow) == 2
