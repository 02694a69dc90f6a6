"""Lookup tables of the store on real PostgreSQL: what is read back is what was published."""

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import select

from app.db import tables as tables_db
from app.db.engine import transaction
from app.db.models import LookupRow, LookupTableRow
from worker.pipeline.ports import LeaseLostError, NewStep, Outcome, StepInterrupted

if TYPE_CHECKING:
    from tests.contract.conftest import World

Make = Callable[..., Outcome]


class TestTables:
    def rows(self, world: "World", table_id: int) -> list[LookupRow]:
        with transaction(world.engine) as session:
            query = select(LookupRow).where(LookupRow.table_id == table_id).order_by(LookupRow.subspace_index)
            return list(session.scalars(query))

    def header(self, world: "World", search_id: uuid.UUID) -> LookupTableRow:
        with transaction(world.engine) as session:
            found = tables_db.header(session, search_id, 0)
            assert found is not None
            return found

    def test_rows_equal_the_table(self, world: "World", fitted_outcome: Make) -> None:
        search_id = world.search()
        world.store.complete(world.claimed(world.step(search_id, "fit_gcn")), fitted_outcome())
        self.check(world, search_id, 0)

    def check(self, world: "World", search_id: uuid.UUID, seed: int) -> None:
        table, header = world.table(seed), self.header(world, search_id)
        assert (header.num_rows, header.digest) == (81, table.digest())
        assert (header.min_multi_adds, header.max_multi_adds) == (table.multi_adds.min(), table.multi_adds.max())
        assert (header.min_params, header.max_params) == (table.params.min(), table.params.max())
        rows = self.rows(world, header.id)
        assert [row.subspace_index for row in rows] == list(range(81))
        assert np.array_equal(np.float32([row.predicted_accuracy for row in rows]), table.predicted_accuracy)
        assert [row.multi_adds for row in rows] == table.multi_adds.tolist()
        assert [row.params for row in rows] == table.params.tolist()
        assert [-1 if row.band is None else row.band for row in rows] == table.band().tolist()

    def test_beyond_the_band_is_null_and_figures_are_exact(
        self, world: "World", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a band of 3 most rows have none; the buffer is sent in more than one piece."""
        monkeypatch.setattr(tables_db, "_CHUNK_BYTES", 100)
        search_id, table = world.search(), world.table()
        band = table.band(3)
        monkeypatch.setattr(type(table), "band", lambda self, **_: band)
        with transaction(world.engine) as session:
            table_id = tables_db.publish(session, search_id, 0, table)
        rows = self.rows(world, table_id)
        assert 0 < sum(row.band is None for row in rows) < 81
        assert [row.band for row in rows] == [None if b < 0 else b for b in band.tolist()]

    def test_a_table_of_the_same_round_is_replaced(self, world: "World") -> None:
        search_id, other_id = world.search(), world.search()
        for stored_id, seed in ((other_id, 5), (search_id, 1), (search_id, 2)):
            with transaction(world.engine) as session:
                tables_db.publish(session, stored_id, 0, world.table(seed))
        assert (world.count(LookupTableRow), world.count(LookupRow)) == (2, 2 * 81)
        self.check(world, search_id, 2)
        self.check(world, other_id, 5)

    def test_vacuum_runs_after_the_commit(self, world: "World", fitted_outcome: Make) -> None:
        """Inside a transaction PostgreSQL refuses it; it must see the new rows."""
        world.store.complete(world.claimed(world.step(world.search(), "fit_gcn")), fitted_outcome())
        query = "select count(*) from pg_stat_all_tables where relname = 'lookup_rows' and last_vacuum is not null"
        with world.engine.connect() as connection:
            assert connection.exec_driver_sql(query).scalar_one() == 1
            visible = "select relallvisible > 0, reltuples from pg_class where relname = 'lookup_rows'"
            assert tuple(connection.exec_driver_sql(visible).one()) == (True, 81.0)


class TestLoadingBeforeTheLock:
    def test_neither_a_cancellation_nor_a_heartbeat_waits(
        self, world: "World", fitted_outcome: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both come while the rows are loaded; the search is cancelled once the table is there."""
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "fit_gcn"))
        signals = []

        def cancel_and_load(*arguments: Any) -> int:
            table_id = load(*arguments)
            world.cancel(search_id)
            signals.append(world.store.heartbeat(claim, 0.9, None))
            return table_id

        load = tables_db.load
        monkeypatch.setattr(tables_db, "load", cancel_and_load)
        world.store.complete(claim, fitted_outcome())
        assert signals == ["cancel"]
        assert world.search_row(search_id).state == "cancelled"
        assert (world.count(LookupTableRow), world.count(LookupRow)) == (1, 81)

    def test_rows_of_a_fenced_attempt_are_never_seen(self, world: "World", fitted_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))
        world.let_lease_run_out(claim.step.id)
        world.reap()
        with pytest.raises(LeaseLostError):
            world.store.complete(claim, fitted_outcome())
        assert (world.count(LookupTableRow), world.count(LookupRow)) == (0, 0)

    def test_a_repeated_call_leaves_no_rows_behind(self, world: "World", fitted_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))
        follows = fitted_outcome(next_steps=(NewStep("reevaluate_shard", 0),))
        ready = world.store.complete(claim, follows)
        assert len(ready) == 1
        assert world.store.complete(claim, follows) == ready
        assert (world.count(LookupTableRow), world.count(LookupRow)) == (1, 81)

    def test_it_can_be_stopped(self, world: "World", fitted_outcome: Make) -> None:
        claim = world.claimed(world.step(world.search(), "fit_gcn"))
        for stopped_at in range(1, 6):
            calls = iter(range(1, 1 + stopped_at))

            def check(calls: Iterator[int] = calls, stopped_at: int = stopped_at) -> None:
                if next(calls) == stopped_at:
                    raise StepInterrupted("cancel")

            if stopped_at < 5:
                with pytest.raises(StepInterrupted):
                    world.store.complete(claim, fitted_outcome(), check)
                assert (world.count(LookupTableRow), world.count(LookupRow)) == (0, 0)
            else:
                world.store.complete(claim, fitted_outcome(), check)
        assert world.count(LookupRow) == 81
