"""Database and artifacts in step: outdated searches go with all that is theirs, wherever a crash comes between."""

import datetime as dt
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sqlalchemy import func, select, text, update

from app.db import deletion as deletion_db
from app.db import standalone as standalone_db
from app.db import tables as tables_db
from app.db.engine import transaction
from app.db.models import (
    Base,
    DeletedSearchRow,
    LookupRow,
    LookupTableRow,
    PairRow,
    RoundRow,
    SearchRow,
    StandaloneAccuracyRow,
    StepRow,
)
from worker import retention as retention_module
from worker.nas.checkpoint import CheckpointStore
from worker.pipeline.ports import Outcome
from worker.retention import Retention

if TYPE_CHECKING:
    from tests.contract.conftest import World

Make = Callable[..., Outcome]
OF_SEARCHES: tuple[type[Base], ...] = (SearchRow, RoundRow, StepRow, PairRow, LookupTableRow, LookupRow)


def days_ago(days: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def retention(world: "World", store: Path) -> Retention:
    return Retention(world.engine, f"file://{store}", 30.0)


def with_everything(world: "World", store: Path, state: str = "succeeded", **values: Any) -> uuid.UUID:
    """A search with a step, a pair, a table and a checkpoint."""
    search_id = world.search(state, started_at=days_ago(50), **values)
    world.step(search_id, state="done")
    with transaction(world.engine) as session:
        session.add(PairRow(search_id=search_id, round_index=0, source="sampled", code="0" * 8, accuracy=0.5))
        tables_db.publish(session, search_id, 0, world.table())
    checkpoint(store, search_id)
    return search_id


def checkpoint(store: Path, search_id: uuid.UUID) -> None:
    CheckpointStore(f"file://{store}", str(search_id)).save_tensors("supernet", {"w": torch.zeros(100)}, {})


def directories(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()} if store.exists() else set()


def tombstones(world: "World") -> list[uuid.UUID]:
    with transaction(world.engine) as session:
        return list(session.scalars(select(DeletedSearchRow.search_id)))


def let_time_pass(world: "World", seconds: float) -> None:
    """As if all tombstones were older by that."""
    by = func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    with transaction(world.engine) as session:
        session.execute(
            update(DeletedSearchRow).values(
                deleted_at=DeletedSearchRow.deleted_at - by, due_at=DeletedSearchRow.due_at - by
            )
        )


class TestOutdated:
    @pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
    def test_goes_with_all_that_is_its(self, world: "World", store: Path, retention: Retention, state: str) -> None:
        with_everything(world, store, state, finished_at=days_ago(31))
        retention.sweep()
        assert [world.count(table) for table in OF_SEARCHES] == [0] * len(OF_SEARCHES)
        assert directories(store) == set()

    def test_the_others_stay(self, world: "World", store: Path, retention: Retention) -> None:
        kept = [
            with_everything(world, store, finished_at=days_ago(29)),
            with_everything(world, store, "running"),
            with_everything(world, store, "queued"),
            with_everything(world, store, "cancelling"),
        ]
        with_everything(world, store, finished_at=days_ago(31))
        retention.sweep()
        assert directories(store) == {str(search_id) for search_id in kept}
        assert [world.count(table) for table in OF_SEARCHES] == [4, 4, 4, 4, 4, 4 * 81]

    def test_not_while_a_worker_is_still_at_it(self, world: "World", store: Path, retention: Retention) -> None:
        search_id = with_everything(world, store, "running")
        step_id = world.step(search_id, shard_index=1)
        world.claimed(step_id)
        with transaction(world.engine) as session:
            session.execute(update(SearchRow).values(state="failed", finished_at=days_ago(31)))
        retention.sweep()
        assert world.count(SearchRow) == 1
        world.let_lease_run_out(step_id)
        retention.sweep()
        assert (world.count(SearchRow), world.count(StepRow)) == (0, 0)

    def test_nor_one_that_is_being_resumed(self, world: "World", store: Path, retention: Retention) -> None:
        search_id = with_everything(world, store, "failed", finished_at=days_ago(31))
        with world.session() as session, session.begin():
            session.get_one(SearchRow, search_id, with_for_update=True)
            retention.sweep()
        assert world.count(SearchRow) == 1

    def with_job(self, world: "World", store: Path, state: str, **values: Any) -> tuple[uuid.UUID, uuid.UUID]:
        """An outdated search, and a retraining of one of its architectures with all that is its."""
        search_id = with_everything(world, store, finished_at=days_ago(31))
        job_id = world.search(state, kind="retraining", origin_id=search_id, num_rounds=0, **values)
        world.step(job_id, "train_standalone", state="done")
        checkpoint(store, job_id)
        with transaction(world.engine) as session:
            standalone_db.add(
                session,
                {
                    "job_id": job_id,
                    "search_id": search_id,
                    "code": "0" * 8,
                    "accuracy": 0.5,
                    "recipe": "small",
                    "network": "proxy",
                    "from_supernet": False,
                    "seed": 0,
                    "epochs": 1,
                    "retraining": {},
                    "artifact": f"{job_id}/standalone",
                },
            )
        return search_id, job_id

    def test_jobs_go_with_their_search(self, world: "World", store: Path, retention: Retention) -> None:
        search_id, job_id = self.with_job(world, store, "succeeded", finished_at=days_ago(31))
        retention.sweep()
        assert [world.count(table) for table in (*OF_SEARCHES, StandaloneAccuracyRow)] == [0] * 7
        assert (directories(store), set(tombstones(world))) == (set(), {search_id, job_id})

    @pytest.mark.parametrize("state", ["succeeded", "queued", "running", "cancelling"])
    def test_a_search_is_as_young_as_the_last_job_about_it(
        self, world: "World", store: Path, retention: Retention, state: str
    ) -> None:
        finished_at = days_ago(29) if state == "succeeded" else None
        both = {str(each) for each in self.with_job(world, store, state, finished_at=finished_at)}
        retention.sweep()
        assert directories(store) == both

    def test_nor_one_with_a_job_that_somebody_is_changing(
        self, world: "World", store: Path, retention: Retention
    ) -> None:
        _, job_id = self.with_job(world, store, "succeeded", finished_at=days_ago(31))
        with world.session() as session, session.begin():
            session.get_one(SearchRow, job_id, with_for_update=True)
            retention.sweep()
        assert world.count(SearchRow) == 2
        retention.sweep()
        assert world.count(SearchRow) == 0

    def test_without_a_retention_nothing_goes(self, world: "World", store: Path) -> None:
        with_everything(world, store, finished_at=days_ago(10_000))
        Retention(world.engine, f"file://{store}", None).sweep()
        assert (world.count(SearchRow), len(directories(store))) == (1, 1)

    def test_a_sweep_is_short(
        self, world: "World", store: Path, retention: Retention, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention_module, "MAX_DELETED", 2)
        ids = [with_everything(world, store, finished_at=days_ago(40 - i)) for i in range(3)]
        retention.sweep()
        assert directories(store) == {str(ids[2])}, "the oldest go first"
        retention.sweep()
        assert directories(store) == set()


class TestCrashes:
    """The process dies between any two steps: the next sweep ends what was begun."""

    def crashing(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        def crash(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, name, crash)

    @pytest.mark.parametrize(
        ("module", "name", "num_searches", "num_directories"),
        [
            (deletion_db, "delete_search", 1, 1),
            (retention_module, "remove_artifacts", 0, 1),
            (deletion_db, "note_artifacts_removed", 0, 0),
        ],
    )
    def test_between(
        self,
        world: "World",
        store: Path,
        retention: Retention,
        monkeypatch: pytest.MonkeyPatch,
        module: Any,
        name: str,
        num_searches: int,
        num_directories: int,
    ) -> None:
        search_id = with_everything(world, store, finished_at=days_ago(31))
        with monkeypatch.context() as patched:
            self.crashing(patched, module, name)
            with pytest.raises(KeyboardInterrupt):
                retention.sweep()
        assert (world.count(SearchRow), len(directories(store))) == (num_searches, num_directories)
        assert (world.count(LookupRow) == 0) == (num_searches == 0)
        assert tombstones(world) == [search_id] * (1 - num_searches)
        retention.sweep()
        assert (world.count(SearchRow), world.count(LookupRow), directories(store)) == (0, 0, set())

    def test_rows_and_tombstone_are_one_transaction(self, world: "World", store: Path) -> None:
        search_id = with_everything(world, store, finished_at=days_ago(31))
        with world.session() as session:
            deletion_db.delete_search(session, search_id)
            session.rollback()
        assert [world.count(table) for table in OF_SEARCHES] == [1, 1, 1, 1, 1, 81]
        assert tombstones(world) == []

    def test_a_store_that_is_away_is_tried_again_later(
        self, world: "World", store: Path, retention: Retention, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_everything(world, store, finished_at=days_ago(31))
        calls = []

        def away(*_: Any) -> None:
            calls.append(1)
            raise OSError("no route to host")

        with monkeypatch.context() as patched:
            patched.setattr(retention_module, "remove_artifacts", away)
            for _ in range(3):
                retention.sweep()
            assert len(calls) == 1, "not at every sweep"
        let_time_pass(world, deletion_db.RETRY_S)
        retention.sweep()
        assert directories(store) == set()


def test_what_a_late_worker_writes_goes_as_well(world: "World", store: Path, retention: Retention) -> None:
    search_id = with_everything(world, store, finished_at=days_ago(31))
    retention.sweep()
    checkpoint(store, search_id)
    retention.sweep()
    assert tombstones(world) == [search_id]
    let_time_pass(world, deletion_db.GRACE_S)
    retention.sweep()
    assert (directories(store), tombstones(world)) == (set(), [])


class TestMeasuring:
    def measured(self, world: "World", search_id: uuid.UUID) -> int:
        return world.search_row(search_id).artifact_bytes

    def let_measurements_age(self, world: "World") -> None:
        with transaction(world.engine) as session:
            session.execute(
                text("update searches set artifacts_measured_at = artifacts_measured_at - interval '2 min'")
            )

    def test_open_searches_again_and_again(self, world: "World", store: Path, retention: Retention) -> None:
        search_id = with_everything(world, store, "running")
        retention.sweep()
        first = self.measured(world, search_id)
        assert first == sum(path.stat().st_size for path in store.rglob("*.safetensors")) > 400
        (store / str(search_id) / "more").write_bytes(b"x" * 50)
        retention.sweep()
        assert self.measured(world, search_id) == first, "not at every sweep"
        self.let_measurements_age(world)
        retention.sweep()
        assert self.measured(world, search_id) == first + 50

    def test_those_that_ended_once_more(self, world: "World", store: Path, retention: Retention) -> None:
        search_id = with_everything(world, store, "running")
        retention.sweep()
        self.let_measurements_age(world)
        checkpoint(store, search_id)
        with transaction(world.engine) as session:
            session.execute(update(SearchRow).values(state="succeeded", finished_at=func.now()))
        (store / str(search_id) / "more").write_bytes(b"x" * 50)
        retention.sweep()
        last = self.measured(world, search_id)
        assert last > 450
        (store / str(search_id) / "more").unlink()
        self.let_measurements_age(world)
        with transaction(world.engine) as session:
            session.execute(text("update searches set finished_at = finished_at - interval '1 hour'"))
        retention.sweep()
        assert self.measured(world, search_id) == last

    def test_without_artifacts_there_are_none(self, world: "World", retention: Retention) -> None:
        search_id = world.search("running", started_at=days_ago(1))
        waiting = world.search("queued")
        retention.sweep()
        assert (self.measured(world, search_id), world.search_row(search_id).artifacts_measured_at is None) == (
            0,
            False,
        )
        assert world.search_row(waiting).artifacts_measured_at is None

    def test_a_store_that_is_away_ends_nothing(
        self, world: "World", store: Path, retention: Retention, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any) -> int:
            raise OSError("no route to host")

        search_id = with_everything(world, store, "running")
        with monkeypatch.context() as patched:
            patched.setattr(retention_module, "artifact_bytes", away)
            retention.sweep()
        assert world.search_row(search_id).artifacts_measured_at is None
        retention.sweep()
        assert self.measured(world, search_id) > 0
