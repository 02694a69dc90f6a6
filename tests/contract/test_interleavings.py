"""Two parties at one search at the same time: no work is lost, none is stored twice, and no search waits for ever."""

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db import searches as searches_db
from app.db import steps as steps_db
from app.db import tables as tables_db
from app.db.models import PairRow, StepRow
from app.errors import SearchStateError
from worker import step_run
from worker.pipeline.ports import ClosedRound, LeaseLostError, NewStep, Outcome, Pair, StepInterrupted
from worker.step_run import StepRunner
from worker.store import Claim, PostgresStore

if TYPE_CHECKING:
    from tests.contract.conftest import World

Make = Callable[..., Outcome]
FIT = NewStep("fit_gcn", 0)
LAST = Outcome(closed_round=ClosedRound("0" * 8, 0.5, ("0" * 8,)), search_done=True)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_until_blocked(world: "World") -> None:
    """Wait until some transaction of this database waits for another one's lock."""
    query = text(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    for _ in range(3000):
        with world.engine.connect() as connection:
            if connection.execute(query).scalar_one():
                return
            connection.execute(text("select pg_sleep(0.01)"))
    raise AssertionError("nobody waits")


class TestClaimAgainstCancel:
    def test_cancel_first(self, world: "World", threads: ThreadPoolExecutor) -> None:
        """The cancellation has looked for leases and found none: nobody may get one before it is committed."""
        search_id = world.search("running")
        step_id = world.step(search_id)
        with world.session() as session, session.begin():
            assert steps_db.lock_search(session, search_id) is not None
            assert not searches_db.has_leased_steps(session, search_id)
            claim = threads.submit(world.store.claim, step_id, "w/1")
            wait_until_blocked(world)
            searches_db.set_state(session, search_id, "cancelled")
        assert claim.result(timeout=30) is None
        assert world.state(step_id).state == "ready"

    def test_claim_first(self, world: "World", threads: ThreadPoolExecutor) -> None:
        search_id = world.search("running")
        step_id = world.step(search_id)
        with world.session() as session, session.begin():
            assert steps_db.claim(session, step_id, worker="w/1", lease_s=60.0) is not None
            cancelled = threads.submit(world.cancel, search_id)
            wait_until_blocked(world)
        cancelled.result(timeout=30)
        assert world.search_row(search_id).state == "cancelling"


class TestCancelAgainstComplete:
    def test_cancelled_while_the_result_is_being_stored(
        self, world: "World", threads: ThreadPoolExecutor, pairs_outcome: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id))
        stores, may_go_on = Event(), Event()
        insert = steps_db.insert

        def slow_insert(*args: Any) -> list[int]:
            stores.set()
            assert may_go_on.wait(30)
            return insert(*args)

        monkeypatch.setattr(steps_db, "insert", slow_insert)
        completed = threads.submit(world.store.complete, claim, pairs_outcome("00000000", when_stage_done=FIT))
        assert stores.wait(30)
        cancelled = threads.submit(world.cancel, search_id)
        wait_until_blocked(world)
        may_go_on.set()
        (fit_id,) = completed.result(timeout=30)
        cancelled.result(timeout=30)
        assert world.search_row(search_id).state == "cancelled"
        assert world.count(PairRow) == 1
        assert world.store.claim(fit_id, "w/1") is None
        assert world.resume(search_id) == [fit_id]
        assert world.store.claim(fit_id, "w/1") is not None

    def test_a_step_that_ends_before_it_notices(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        first, second = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.cancel(search_id)
        world.store.complete(first, pairs_outcome("00000000", when_stage_done=FIT))
        assert world.search_row(search_id).state == "cancelling"
        (fit_id,) = world.store.complete(second, pairs_outcome("00000001", when_stage_done=FIT))
        search = world.search_row(search_id)
        assert (search.state, search.finished_at is not None) == ("cancelled", True)
        assert world.count(PairRow) == 2
        assert world.resume(search_id) == [fit_id]

    def test_a_cancellation_that_comes_too_late(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "advance"))
        world.cancel(search_id)
        world.store.complete(claim, LAST)
        assert world.search_row(search_id).state == "succeeded"

    def test_the_last_lease_settles_it(self, world: "World") -> None:
        """However the leases go: one is handed back, one runs out."""
        search_id = world.search()
        first, second = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.cancel(search_id)
        world.store.hand_back(first)
        assert world.search_row(search_id).state == "cancelling"
        world.let_lease_run_out(second.step.id)
        assert world.reap() == []
        assert world.search_row(search_id).state == "cancelled"
        assert world.resume(search_id) == [first.step.id, second.step.id]

    @pytest.mark.parametrize("kind", ["evaluate_shard", "advance"])
    def test_a_worker_that_comes_back_after_the_last_word(self, world: "World", kind: str, pairs_outcome: Make) -> None:
        """Its lease was over, so the search was cancelled at once: no success may follow, no step be lost."""
        search_id = world.search()
        claim = world.claimed(world.step(search_id, kind))
        world.let_lease_run_out(claim.step.id)
        world.cancel(search_id)
        assert world.search_row(search_id).state == "cancelled"
        before = world.stored()
        with pytest.raises(StepInterrupted):
            world.store.complete(claim, LAST if kind == "advance" else pairs_outcome("00000000"))
        assert world.stored() == before
        assert world.search_row(search_id).state == "cancelled"
        assert world.store.hand_back(claim)
        assert world.resume(search_id) == [claim.step.id]
        again = world.claimed(claim.step.id)
        world.store.complete(again, LAST if kind == "advance" else pairs_outcome("00000000"))

    def test_queued_searches_are_cancelled_at_once_and_resumed_as_queued(self, world: "World") -> None:
        search_id = world.search()
        step_id = world.step(search_id, "train_supernet")
        world.cancel(search_id)
        assert world.search_row(search_id).state == "cancelled"
        assert world.resume(search_id) == [step_id]
        assert world.search_row(search_id).state == "queued"


class TestResumeAfterCancel:
    def test_before_the_worker_notices_it_just_goes_on(self, world: "World", pairs_outcome: Make) -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id))
        world.cancel(search_id)
        assert world.resume(search_id) == []
        assert world.store.heartbeat(claim, 0.5, None) == "go"
        world.store.complete(claim, pairs_outcome("00000000"))
        assert world.search_row(search_id).state == "running"

    def test_after_the_worker_noticed_its_step_is_woken_at_once(self, world: "World") -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id))
        world.cancel(search_id)
        assert world.store.heartbeat(claim, 0.5, None) == "cancel"
        world.resume(search_id)
        world.store.hand_back(claim)
        assert world.search_row(search_id).state == "running"
        assert world.reap(rewake_s=3600.0) == [claim.step.id]

    def test_while_the_reaper_holds_the_steps(self, world: "World") -> None:
        search_id = world.search("failed")
        step_id = world.step(search_id)
        with world.session() as session, session.begin():
            session.execute(select(StepRow).where(StepRow.id == step_id).with_for_update())
            world.resume(search_id)
        assert world.reap(rewake_s=0.0) == [step_id]


class TestFailAgainstComplete:
    @pytest.mark.parametrize("attempt", range(4))
    def test_at_the_same_time(
        self, world: "World", threads: ThreadPoolExecutor, pairs_outcome: Make, attempt: int
    ) -> None:
        search_id = world.search()
        bad, *good = (world.claimed(world.step(search_id, shard_index=i)) for i in range(4))
        barrier = Barrier(4)

        def act(position: int) -> list[int]:
            barrier.wait()
            if position == 3:
                world.store.fail(bad, "corrupt image")
                return []
            outcome = pairs_outcome(f"0000000{position}", when_stage_done=FIT)
            return world.store.complete(good[position], outcome)

        assert [step_id for ids in threads.map(act, range(4)) for step_id in ids] == []
        assert world.search_row(search_id).state == "failed"
        assert world.count(PairRow) == 3
        assert world.resume(search_id) == [bad.step.id]
        (fit_id,) = world.store.complete(world.claimed(bad.step.id), pairs_outcome("00000009", when_stage_done=FIT))
        assert world.store.claim(fit_id, "w/1") is not None

    def test_a_shard_that_was_at_work_all_along_makes_the_following_step(
        self, world: "World", pairs_outcome: Make
    ) -> None:
        """One shard fails, the search is resumed and the shard done, while the other one is still at work."""
        search_id = world.search()
        bad, slow = (world.claimed(world.step(search_id, shard_index=i)) for i in range(2))
        world.store.fail(bad, "no memory")
        assert world.resume(search_id) == [bad.step.id]
        again = world.claimed(bad.step.id)
        assert world.store.complete(again, pairs_outcome("00000000", when_stage_done=FIT)) == []
        (fit_id,) = world.store.complete(slow, pairs_outcome("00000001", when_stage_done=FIT))
        assert world.state(fit_id).state == "ready"


class WorkNetworks:
    """Networks for one evaluation step."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not needed here")

    def evaluate(self, search: Any, architectures: list[Any], report: Any) -> list[float]:
        return [0.5] * len(architectures)


class TestDatabaseRestart:
    """A step under way while PostgreSQL restarts: it waits, and its result is stored once."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(step_run, "_RETRY_S", 0.01)

    def runner(self, store: PostgresStore, woken: list[int]) -> StepRunner:
        return StepRunner(store, WorkNetworks(), woken.extend, "w/1", heartbeat_s=0.02, shard_size=8, max_attempts=5)

    def test_between_commit_and_acknowledgement(self, world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
        search_id = world.search()
        world.step(search_id, payload={"codes": ["00000000", "00000001"]})
        complete, calls = world.store.complete, []

        def lost_answer(claim: Claim, outcome: Outcome, check: Callable[[], None]) -> list[int]:
            calls.append(complete(claim, outcome, check))
            if len(calls) == 1:
                raise OperationalError("commit", None, Exception("server closed the connection unexpectedly"))
            return calls[-1]

        monkeypatch.setattr(world.store, "complete", lost_answer)
        woken: list[int] = []
        assert self.runner(world.store, woken).run_next() == "done"
        assert [world.state(i).kind for i in woken] == ["fit_gcn"]
        assert (len(calls), world.count(PairRow), len(world.steps(search_id))) == (2, 2, 2)

    def cut_off_once(self, world: "World", monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
        """Have the server end the connection of whoever calls a function for the first time."""
        whole, cut = getattr(module, name), []

        def cutting(session: Session, *args: Any) -> Any:
            if not cut:
                cut.append(session.execute(text("select pg_backend_pid()")).scalar_one())
                with world.engine.connect() as other:
                    assert other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": cut[0]}).scalar_one()
            return whole(session, *args)

        monkeypatch.setattr(module, name, cutting)
        return cut

    def test_while_the_result_is_being_stored(self, world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
        search_id = world.search()
        world.step(search_id, payload={"codes": ["00000000"]})
        cut = self.cut_off_once(world, monkeypatch, steps_db, "insert")
        woken: list[int] = []
        assert self.runner(world.store, woken).run_next() == "done"
        assert (len(cut), len(woken), world.count(PairRow), len(world.steps(search_id))) == (1, 1, 1, 2)

    def test_while_a_table_is_being_loaded(
        self, world: "World", monkeypatch: pytest.MonkeyPatch, fitted_outcome: Make
    ) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))
        cut = self.cut_off_once(world, monkeypatch, tables_db, "_copy")
        step_run.patiently(lambda: world.store.complete(claim, fitted_outcome()), lambda: None)
        assert (len(cut), world.stored()[3]) == (1, 81)


class Storm:
    """Workers, reapers and a user who cannot make up their mind, on one stage of twelve shards."""

    num_shards = 12

    def __init__(self, world: "World", seed: int) -> None:
        self.world, self.seed = world, seed
        self.search_id = world.search("running")
        self.step_ids = [world.step(self.search_id, shard_index=i) for i in range(self.num_shards)]
        self.completed: list[int] = []
        self._lock = Lock()

    def complete(self, claim: Claim) -> None:
        """Store a shard's only pair, as a worker does, and note that it was taken."""
        outcome = Outcome(pairs=(Pair(f"{claim.step.shard_index:08d}", 0.5),), when_stage_done=FIT)
        try:
            self.world.store.complete(claim, outcome)
        except LeaseLostError:
            return
        except StepInterrupted:
            self.world.store.hand_back(claim)
            return
        with self._lock:
            self.completed.append(claim.step.shard_index)

    def work(self, worker: int) -> None:
        """Claim steps at random, and end them in every way there is."""
        rng = random.Random(100 * self.seed + worker)
        for _ in range(30):
            claim = self.world.store.claim(rng.choice(self.step_ids), f"w{worker}/1")
            if claim is not None:
                self.end(claim, rng.random())

    def end(self, claim: Claim, how: float) -> None:
        store = self.world.store
        if store.heartbeat(claim, how, None) == "cancel" or how < 0.2:
            store.hand_back(claim)
        elif how < 0.35:
            store.fail(claim, "bad luck")
        else:
            if how < 0.6:
                self.world.let_lease_run_out(claim.step.id)
            if not 0.5 < how < 0.6:
                self.complete(claim)

    def cancel_and_resume(self, _: int) -> None:
        rng = random.Random(self.seed)
        for _ in range(25):
            try:
                (self.world.cancel if rng.random() < 0.5 else self.world.resume)(self.search_id)
            except SearchStateError:
                self.world.resume(self.search_id)

    def reap(self, _: int) -> None:
        for _ in range(25):
            self.world.reap(max_attempts=10**6, rewake_s=0.0)

    def settle(self) -> None:
        """Whoever is still at work dies, the search is resumed, and one good worker takes what is woken."""
        for step in self.world.steps(self.search_id):
            if step.state == "leased":
                self.world.let_lease_run_out(step.id)
        self.reap(0)
        for step_id in self.world.resume(self.search_id):
            if step_id in self.step_ids:
                self.complete(self.world.claimed(step_id))


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_everything_ends_as_it_should(world: "World", threads: ThreadPoolExecutor, seed: int) -> None:
    storm = Storm(world, seed)
    parties = [*((storm.work, i) for i in range(5)), (storm.cancel_and_resume, 0), (storm.reap, 0), (storm.reap, 1)]
    for future in [threads.submit(party, i) for party, i in parties]:
        future.result(timeout=120)
    storm.settle()
    assert sorted(storm.completed) == list(range(storm.num_shards)), "each shard is stored exactly once"
    assert world.count(PairRow) == storm.num_shards
    following = [(s.kind, s.state) for s in world.steps(storm.search_id) if s.id not in storm.step_ids]
    assert following == [("fit_gcn", "ready")]
    assert world.search_row(storm.search_id).state == "running"


def test_a_reaper_that_waits_for_a_completion_changes_nothing(
    world: "World", threads: ThreadPoolExecutor, pairs_outcome: Make
) -> None:
    """The lease ran out while the result was being stored: the completion was first, and stays."""
    search_id = world.search()
    claim = world.claimed(world.step(search_id))
    world.let_lease_run_out(claim.step.id)
    with world.session() as session, session.begin():
        steps_db.lock_search(session, uuid.UUID(claim.search.id))
        reaped = threads.submit(world.reap)
        wait_until_blocked(world)
        assert steps_db.finish(session, claim.key, {})
    assert reaped.result(timeout=30) == []
    assert (world.state(claim.step.id).state, world.state(claim.step.id).failures) == ("done", 0)
