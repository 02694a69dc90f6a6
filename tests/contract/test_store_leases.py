"""Leases of the store on real PostgreSQL: steps that expire, are put off or handed back, and are woken again."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from app.db import operations
from app.db import steps as steps_db
from app.db.engine import transaction

if TYPE_CHECKING:
    from tests.contract.conftest import World


class TestExpiry:
    def test_a_silent_workers_step_is_ready_again(self, world: "World") -> None:
        claim = world.claimed(world.step(world.search()))
        assert world.reap() == []
        world.let_lease_run_out(claim.step.id)
        assert world.reap() == [claim.step.id]
        row = world.state(claim.step.id)
        assert (row.state, row.failures, row.attempt, row.lease_expires_at) == ("ready", 1, 1, None)
        with transaction(world.engine) as session:
            assert operations.counters(session) == {("lease_expiries", "evaluate_shard"): 1}

    def test_renewed_in_the_nick_of_time(self, world: "World") -> None:
        """The lease was over when the reaper looked, and is good again when it comes to take the step back."""
        claim = world.claimed(world.step(world.search()))
        world.let_lease_run_out(claim.step.id)
        with transaction(world.engine) as session:
            found = steps_db.expired(session)
        assert world.store.heartbeat(claim, 0.5, None) == "go"
        with transaction(world.engine) as session:
            for step_id, _ in found:
                steps_db.expire(session, step_id, 3)
        assert [step_id for step_id, _ in found] == [claim.step.id]
        assert (world.state(claim.step.id).state, world.state(claim.step.id).failures) == ("leased", 0)

    def test_too_many_dead_workers_fail_the_search(self, world: "World") -> None:
        search_id = world.search()
        step_id = world.step(search_id)
        for _ in range(3):
            world.claimed(step_id, "host:9/1")
            world.let_lease_run_out(step_id)
            world.reap(max_attempts=3)
        row, search = world.state(step_id), world.search_row(search_id)
        assert (row.state, row.failures, search.state) == ("failed", 3, "failed")
        assert search.error is not None
        assert "died 3 times (last: host:9/1)" in search.error
        assert world.resume(search_id) == [step_id]
        assert world.state(step_id).failures == 0
        assert world.claimed(step_id).step.attempt == 4

    def test_two_reapers_at_once_count_a_death_once(self, world: "World") -> None:
        search_id = world.search()
        step_ids = [world.step(search_id, shard_index=i) for i in range(6)]
        for step_id in step_ids:
            world.claimed(step_id)
            world.let_lease_run_out(step_id)
        barrier = Barrier(4)

        def sweep(_: int) -> list[int]:
            barrier.wait()
            return world.reap()

        with ThreadPoolExecutor(4) as threads:
            woken = [step_id for ids in threads.map(sweep, range(4)) for step_id in ids]
        assert sorted(woken) == step_ids
        assert {step.failures for step in world.steps(search_id)} == {1}


class TestPutOff:
    def test_the_step_is_tried_again_later_with_its_reason(self, world: "World") -> None:
        search_id = world.search()
        step_id = world.step(search_id)
        world.store.put_off(world.claimed(step_id), "the disk is full", 3)
        row = world.state(step_id)
        assert (row.state, row.failures, row.error, row.worker) == ("ready", 1, "the disk is full", None)
        assert world.search_row(search_id).state == "running"
        assert world.reap(rewake_s=3600) == [], "not at once: what is amiss needs time"
        assert world.reap(rewake_s=0) == [step_id]
        assert world.claimed(step_id).step.attempt == 2
        assert world.state(step_id).error is None

    def test_what_stays_amiss_fails_the_search(self, world: "World") -> None:
        search_id = world.search()
        step_id = world.step(search_id)
        for _ in range(3):
            world.store.put_off(world.claimed(step_id), "the disk is full", 3)
        assert (world.state(step_id).state, world.search_row(search_id).state) == ("failed", "failed")
        assert "the disk is full (tried 3 times" in (world.search_row(search_id).error or "")
        assert world.resume(search_id) == [step_id]

    def test_a_search_that_is_being_cancelled_is_cancelled(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id))
        world.cancel(search_id)
        world.store.put_off(claim, "the disk is full", 3)
        assert world.search_row(search_id).state == "cancelled"


class TestHandBack:
    def test_the_step_is_ready_and_due_at_once(self, world: "World") -> None:
        claim = world.claimed(world.step(world.search()))
        assert world.store.hand_back(claim) is True
        row = world.state(claim.step.id)
        assert (row.state, row.worker, row.lease_expires_at, row.failures) == ("ready", None, None, 0)
        assert world.reap() == [claim.step.id]

    def test_on_request_of_the_worker_that_shuts_down(self, world: "World") -> None:
        search_id = world.search()
        mine = world.claimed(world.step(search_id, shard_index=0), "host:1/20")
        others = [
            world.claimed(world.step(search_id, shard_index=i), name)
            for i, name in enumerate(["host:12/20", "host:1", "xhost:1/20", "host_1/20"], start=1)
        ]
        world.store.request_release("host:1")
        assert world.store.heartbeat(mine, 0.5, None) == "release"
        assert [world.store.heartbeat(other, 0.5, None) for other in others] == ["go"] * 4
        world.store.hand_back(mine)
        assert world.store.heartbeat(world.claimed(mine.step.id), 0.0, None) == "go"

    def test_names_with_wildcards_are_taken_literally(self, world: "World") -> None:
        claim = world.claimed(world.step(world.search()), "hostx1/2")
        world.store.request_release("host_1")
        world.store.request_release("%")
        assert world.store.heartbeat(claim, 0.5, None) == "go"


class TestWaking:
    def test_ready_steps_are_woken_again_but_not_all_the_time(self, world: "World") -> None:
        step_id = world.step(world.search())
        assert world.reap() == []
        world.change(step_id, woken_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=31))
        assert world.reap() == [step_id]
        assert world.reap() == []

    @pytest.mark.parametrize("state", ["cancelling", "cancelled", "failed", "succeeded"])
    def test_not_those_of_a_search_that_is_over(self, world: "World", state: str) -> None:
        world.step(world.search(state), woken_at=dt.datetime.fromtimestamp(0, dt.UTC))
        assert world.reap() == []
