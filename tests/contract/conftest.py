"""A store on real PostgreSQL, searches put there by SQL, and what the database holds afterwards."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.db.engine import transaction
from app.db.models import Base, LookupRow, LookupTableRow, PairRow, RoundRow, SearchRow, StepRow
from app.domain.lookup_table import LookupTable
from app.domain.rounds import first_subspace
from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from app.services import lifecycle
from app.services.callers import EVERYONE
from app.services.quotas import Quotas
from worker.pipeline.ports import FittedTable, Outcome, Pair
from worker.store import Claim, PostgresStore

LEASE_S = 60.0


@dataclass
class World:
    """A database with searches in it, and a store on it.

    Attributes:
        engine: Connections for looking and for setting the scene.
        store: What is tested.
    """

    engine: Engine
    store: PostgresStore

    def search(self, state: str = "queued", **values: Any) -> uuid.UUID:
        """Insert a search over NAS-Bench-Macro in two rounds."""
        space = preset("nas-bench-macro")
        config = from_preset(
            "quick",
            {"num_sampled": 20, "segments": [[0, 1, 2, 3], [4, 5, 6, 7]], "num_reevaluated": 10, "num_preserved": 2},
        ).resolved(space)
        row = {
            "state": state,
            "dataset": "digits",
            "preset": "quick",
            "search_space": space.model_dump(mode="json"),
            "config": config.model_dump(mode="json"),
            "num_rounds": config.num_rounds,
            "request": {},
            **values,
        }
        with transaction(self.engine) as session:
            search = SearchRow(**row)
            session.add(search)
            session.flush()
            session.add(RoundRow(search_id=search.id, round_index=0, subspace=self.subspace().to_dict()))
            return search.id

    def subspace(self) -> Subspace:
        """S_0 of those searches."""
        space = preset("nas-bench-macro")
        config = from_preset("quick", {"num_sampled": 20, "segments": [[0, 1, 2, 3], [4, 5, 6, 7]]})
        return first_subspace(space, config.resolved(space))

    def table(self, seed: int = 0) -> LookupTable:
        """A table of S_0 with random predictions, a good part of which are equal."""
        predicted = np.round(np.random.default_rng(seed).random(self.subspace().size), 2)
        return LookupTable.from_predictions(self.subspace(), predicted.astype(np.float32))

    def step(self, search_id: uuid.UUID, kind: str = "evaluate_shard", shard_index: int = 0, **values: Any) -> int:
        """Insert a ready step."""
        round_index = None if kind == "train_supernet" else 0
        row = {"kind": kind, "round_index": round_index, "shard_index": shard_index, **values}
        with transaction(self.engine) as session:
            step = StepRow(search_id=search_id, **row)
            session.add(step)
            session.flush()
            return step.id

    def claimed(self, step_id: int, worker: str = "host:1/2") -> Claim:
        """Claim a step that must be there to claim."""
        claim = self.store.claim(step_id, worker)
        assert claim is not None
        return claim

    def steps(self, search_id: uuid.UUID) -> list[StepRow]:
        """All steps of a search, in the order they were made."""
        with transaction(self.engine) as session:
            return list(session.scalars(select(StepRow).where(StepRow.search_id == search_id).order_by(StepRow.id)))

    def state(self, step_id: int) -> StepRow:
        """One step as it is now."""
        with transaction(self.engine) as session:
            return session.get_one(StepRow, step_id)

    def search_row(self, search_id: uuid.UUID) -> SearchRow:
        """One search as it is now."""
        with transaction(self.engine) as session:
            return session.get_one(SearchRow, search_id)

    def round_row(self, search_id: uuid.UUID, round_index: int = 0) -> RoundRow:
        """One round as it is now."""
        with transaction(self.engine) as session:
            return session.get_one(RoundRow, (search_id, round_index))

    def change(self, step_id: int, **values: Any) -> None:
        """Set columns of a step."""
        with transaction(self.engine) as session:
            session.execute(update(StepRow).where(StepRow.id == step_id).values(**values))

    def let_lease_run_out(self, step_id: int) -> None:
        """As if the worker had been silent for longer than its lease."""
        self.change(step_id, lease_expires_at=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 1))

    def count(self, table: type[Base]) -> int:
        """Rows of a table."""
        with transaction(self.engine) as session:
            return session.execute(select(func.count()).select_from(table)).scalar_one()

    def stored(self) -> tuple[int, ...]:
        """Rows of everything that results are stored in."""
        return tuple(self.count(table) for table in (PairRow, RoundRow, LookupTableRow, LookupRow, StepRow))

    def cancel(self, search_id: uuid.UUID) -> None:
        """Cancel a search as the API does."""
        with transaction(self.engine) as session:
            lifecycle.cancel(session, search_id, EVERYONE)

    def resume(self, search_id: uuid.UUID) -> list[int]:
        """Resume a search as the API does."""
        with transaction(self.engine) as session:
            return lifecycle.resume(session, search_id, EVERYONE, Quotas())

    def reap(self, max_attempts: int = 3, rewake_s: float = 30.0) -> list[int]:
        """One sweep of the reaper."""
        return self.store.reap(max_attempts=max_attempts, rewake_s=rewake_s)

    def session(self) -> Session:
        """A session that the test ends itself, to hold locks across calls."""
        return Session(self.engine, expire_on_commit=False)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = create_engine(database_url, pool_size=20)
    yield World(engine, PostgresStore(engine, lease_s=LEASE_S))
    # what is still out would be closed by the garbage collector, in the middle of some later test
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedout() == 0
    engine.dispose()


@pytest.fixture
def pairs_outcome() -> Callable[..., Outcome]:
    """Return an outcome with pairs of the given codes."""

    def make(*codes: str, **values: Any) -> Outcome:
        return Outcome(pairs=tuple(Pair(code, 0.5, code.endswith("0")) for code in codes), **values)

    return make


@pytest.fixture
def fitted_outcome(world: World) -> Callable[..., Outcome]:
    """Return an outcome with a table."""

    def make(seed: int = 0, **values: Any) -> Outcome:
        return Outcome(fitted=FittedTable(world.table(seed), 0.25, {"final_loss": 0.1}), **values)

    return make
