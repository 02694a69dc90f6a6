"""The pipeline's ports over PostgreSQL: claims, heartbeats, and an outcome stored in one transaction."""

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Engine, delete, func, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db import devices as devices_db
from app.db import operations
from app.db import pairs as pairs_db
from app.db import standalone as standalone_db
from app.db import steps as steps_db
from app.db import tables as tables_db
from app.db import turns as turns_db
from app.db.engine import transaction
from app.db.models import RoundRow, SearchRow, SpaceModelRow
from app.db.steps import Signal, StepKey
from app.domain.latency import layout_digests
from app.domain.search_config import SearchConfig
from app.domain.search_space import SearchSpace
from app.domain.whole_space.model_bytes import to_bytes
from worker.pipeline.ports import (
    LeaseLostError,
    MeasuredDevice,
    NewStep,
    Outcome,
    Search,
    StandaloneAccuracy,
    Step,
    StepInterrupted,
)
from worker.reader import PostgresReader

_MAX_RACES = 100
"""A claim loses to another worker's at most once per worker that asks at that moment; beyond that the reaper wakes."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Claim:
    """A claimed step with its search, and the id of the request that asked for the search last."""

    step: Step
    search: Search
    request_id: str | None = None

    @property
    def key(self) -> StepKey:
        """What identifies the claim in the database."""
        return StepKey(self.step.id, self.step.attempt)


class PostgresStore(PostgresReader):
    """All that workers read and write. Safe to share between threads; every method is one transaction."""

    def __init__(self, engine: Engine, *, lease_s: float) -> None:
        """Work on a database, with leases of ``lease_s`` seconds."""
        super().__init__(engine)
        self._lease_s = lease_s

    def claim_fairest(self, worker: str) -> Claim | None:
        """Claim the ready step whose turn it is; None where none is ready.

        A wake-up only says that there is work. As many are sent as steps become ready and each is answered with one
        claim, so a step that is passed over is taken with the next one.
        """
        for _ in range(_MAX_RACES):
            with transaction(self._engine) as session:
                step_id = turns_db.fairest_ready_step(session)
            if step_id is None:
                return None
            # a transaction of its own: two that held one search and waited for another's would wait for each other
            if (claim := self.claim(step_id, worker)) is not None:
                return claim
        return None

    def claim(self, step_id: int, worker: str) -> Claim | None:
        """Claim a step; None where another worker has it, or its search is not to be worked on.

        A search whose stored request this version cannot read fails with that reason: nobody could ever work on it.
        """
        with transaction(self._engine) as session:
            row = steps_db.claim(session, step_id, worker=worker, lease_s=self._lease_s)
            if row is None:
                return None
            step = Step(row.id, row.kind, row.round_index, row.shard_index, row.payload, row.attempt)
            search = session.get_one(SearchRow, row.search_id)
            try:
                return Claim(step, _search(search), search.request_id)
            except ValueError as error:
                log.exception("stored search cannot be read", search_id=str(row.search_id), step_id=row.id)
                reason = f"this version of the worker cannot read the stored search, submit it again: {error}"
                steps_db.fail(session, StepKey(row.id, row.attempt), reason)
                return None

    def heartbeat(self, claim: Claim, progress: float, detail: Mapping[str, Any] | None) -> Signal:
        """Renew the lease, store the progress, and say whether to go on."""
        with transaction(self._engine) as session:
            return steps_db.heartbeat(
                session, claim.key, progress=progress, detail=detail and _json(detail), lease_s=self._lease_s
            )

    def complete(self, claim: Claim, outcome: Outcome, check: Callable[[], None] = lambda: None) -> list[int]:
        """Store a step's outcome and the steps that follow, all or nothing.

        Safe to repeat: where an earlier call was committed and its answer lost, nothing is stored again. A table's rows
        are loaded before the search is locked, so that neither a cancellation nor a heartbeat waits for them; the lock
        then decides whether they are committed.

        Args:
            claim: The step.
            outcome: What it has found.
            check: Called now and then before the lock; may raise to stop, and nothing is stored.

        Returns:
            The steps that became ready, to be woken.

        Raises:
            LeaseLostError: If another attempt has the step by now; nothing is stored.
            StepInterrupted: If the search is cancelled for good; nothing is stored, the step is to be handed back.
        """
        search_id = uuid.UUID(claim.search.id)
        prepared = None if outcome.fitted is None else tables_db.prepare(outcome.fitted.table, check)
        with transaction(self._engine) as session:
            loaded = None if prepared is None else (prepared, tables_db.load(session, prepared, check))
            search = steps_db.lock_search(session, search_id)
            if search is not None and search.state == "cancelled":
                # a worker that was silent beyond its lease; "cancelled" was the last word, and a resume needs the step
                raise StepInterrupted("cancel")
            if not steps_db.finish(session, claim.key, _json(outcome.result)):
                if steps_db.was_finished(session, claim.key):
                    # the rows that were just loaded once more; without a header nothing would ever delete them
                    session.rollback()
                    with transaction(self._engine) as fresh:
                        return steps_db.ready_steps(fresh, search_id)
                raise LeaseLostError(f"step {claim.step.id}: attempt {claim.step.attempt} was fenced off")
            if loaded is not None:
                assert claim.step.round_index is not None, "a table belongs to a round"
                tables_db.put_header(session, search_id, claim.step.round_index, *loaded)
            self._store_round(session, search_id, claim.step, outcome)
            ready = list(outcome.next_steps)
            if outcome.when_stage_done and not steps_db.num_unfinished(
                session, search_id, claim.step.round_index, claim.step.kind
            ):
                ready.append(outcome.when_stage_done)
            step_ids = steps_db.insert(session, search_id, [_columns(step) for step in ready])
            steps_db.settle_cancellation(session, search_id)
            operations.count(session, _counts(claim.step, outcome))
        if outcome.fitted is not None:
            self._vacuum()
        return step_ids

    def _vacuum(self) -> None:
        """Tend to freshly loaded rows. They are committed: should this fail, lookups are slow, but the step is done."""
        try:
            tables_db.vacuum(self._engine)
        except SQLAlchemyError as error:
            log.warning("table not vacuumed; autovacuum will", error=str(error))

    def _store_round(self, session: Session, search_id: uuid.UUID, step: Step, outcome: Outcome) -> None:
        """Write pairs and the facts of rounds that an outcome holds."""
        pairs_db.add(
            session,
            [
                {
                    "search_id": search_id,
                    "round_index": step.round_index,
                    "source": outcome.pair_source,
                    "code": pair.code,
                    "accuracy": pair.accuracy,
                    "held_out": pair.held_out,
                }
                for pair in outcome.pairs
            ],
        )
        values: dict[str, Any] = {}
        if (fitted := outcome.fitted) is not None and step.round_index is not None:
            values |= {"held_out_tau": fitted.held_out_tau, "fit_report": _json(fitted.report)}
        if (closed := outcome.closed_round) is not None:
            values |= {"best_code": closed.best_code, "best_accuracy": closed.best_accuracy}
            values |= {"preserved": list(closed.preserved), "finished_at": func.now()}
        if values:
            session.execute(
                update(RoundRow)
                .where(RoundRow.search_id == search_id, RoundRow.round_index == step.round_index)
                .values(**values)
            )
        if (space := outcome.fitted_space) is not None:
            session.execute(delete(SpaceModelRow).where(SpaceModelRow.search_id == search_id))
            session.add(SpaceModelRow(search_id=search_id, model=to_bytes(space.model), report=_json(space.report)))
        if (opened := outcome.opened_round) is not None:
            session.add(
                RoundRow(search_id=search_id, round_index=opened.round_index, subspace=opened.subspace.to_dict())
            )
        self._store_job(session, search_id, outcome)
        if outcome.search_done:
            session.execute(
                update(SearchRow)
                .where(SearchRow.id == search_id)
                .values(state="succeeded", finished_at=func.now(), **_final(outcome))
            )

    def _store_job(self, session: Session, job_id: uuid.UUID, outcome: Outcome) -> None:
        """Write what a job beside searches found."""
        if (standalone := outcome.standalone) is not None:
            standalone_db.add(session, _standalone_columns(job_id, standalone))
        if (measured := outcome.device) is not None:
            devices_db.put(session, **_device_columns(session.get_one(SearchRow, job_id), measured))

    def hand_back(self, claim: Claim) -> bool:
        """Make the step ready again for any worker; False where the lease is lost."""
        search_id = uuid.UUID(claim.search.id)
        with transaction(self._engine) as session:
            steps_db.lock_search(session, search_id)
            released = steps_db.hand_back(session, claim.key)
            steps_db.settle_cancellation(session, search_id)
            return released

    def fail(self, claim: Claim, reason: str) -> None:
        """End the step and its search as failed, with a reason for people; pairs and checkpoints stay."""
        with transaction(self._engine) as session:
            steps_db.lock_search(session, uuid.UUID(claim.search.id))
            steps_db.fail(session, claim.key, reason)

    def put_off(self, claim: Claim, reason: str, max_attempts: int) -> None:
        """Leave the step for a later try; the ``max_attempts``-th time fails the search."""
        with transaction(self._engine) as session:
            steps_db.lock_search(session, uuid.UUID(claim.search.id))
            steps_db.put_off(session, claim.key, reason, max_attempts)

    def request_release(self, worker: str) -> None:
        """Ask for the steps of a worker's children to be handed back, because the worker shuts down."""
        with transaction(self._engine) as session:
            steps_db.request_release(session, worker)

    def reap(self, *, max_attempts: int, rewake_s: float) -> list[int]:
        """Take back the steps of silent workers; return the steps to wake."""
        with transaction(self._engine) as session:
            expired = steps_db.expired(session)
        for step_id, search_id in expired:
            with transaction(self._engine) as session:
                steps_db.lock_search(session, search_id)
                step = steps_db.expire(session, step_id, max_attempts)
                if step is not None:
                    log.warning(
                        "lease expired",
                        search_id=str(search_id),
                        round_index=step.round_index,
                        step_id=step_id,
                        kind=step.kind,
                        attempt=step.attempt,
                        worker=step.worker,
                        failures=step.failures,
                        step_state=step.state,
                    )
                    operations.count(session, {("lease_expiries", step.kind): 1})
        with transaction(self._engine) as session:
            return steps_db.due_for_waking(session, rewake_s)


def _final(outcome: Outcome) -> dict[str, Any]:
    """What a search or a job found in the end."""
    if (closed := outcome.closed_round) is not None:
        return {"final_code": closed.best_code, "final_accuracy": closed.best_accuracy}
    if (standalone := outcome.standalone) is not None:
        return {"final_code": standalone.retraining.code, "final_accuracy": standalone.accuracy}
    return {}


def _standalone_columns(job_id: uuid.UUID, standalone: StandaloneAccuracy) -> dict[str, Any]:
    retraining = standalone.retraining
    return {
        "job_id": job_id,
        "search_id": uuid.UUID(standalone.search_id),
        "code": retraining.code,
        "accuracy": standalone.accuracy,
        "recipe": retraining.recipe_name,
        "network": retraining.network,
        "from_supernet": retraining.from_supernet,
        "seed": retraining.seed,
        "epochs": retraining.recipe.epochs,
        "retraining": retraining.model_dump(mode="json"),
        "artifact": standalone.artifact,
    }


def _device_columns(job: SearchRow, measured: MeasuredDevice) -> dict[str, Any]:
    space = SearchSpace.model_validate(job.search_space)
    return {
        "owner": measured.measurement.owner,
        "name": measured.measurement.name,
        "layout_digests": layout_digests(space),
        "search_space": space.name,
        "latencies": measured.latencies.to_dict(),
        "origin": "measured",
        "report": _json(measured.report),
    }


def _counts(step: Step, outcome: Outcome) -> dict[tuple[operations.Counter, str], float]:
    """What a stored step adds to the counters."""
    images = outcome.result.get("images_per_s", 0.0) * outcome.result.get("seconds", 0.0)
    counts: dict[tuple[operations.Counter, str], float] = {
        ("steps_done", step.kind): 1,
        ("evaluations", step.kind): len(outcome.pairs),
        ("training_images", step.kind): round(images),
    }
    return {key: value for key, value in counts.items() if value}


def _columns(step: NewStep) -> Mapping[str, Any]:
    return {
        "kind": step.kind,
        "round_index": step.round_index,
        "shard_index": step.shard_index,
        "payload": dict(step.payload),
    }


def _search(row: SearchRow) -> Search:
    """Read a stored search; ValueError where this version cannot."""
    return Search(
        id=str(row.id),
        dataset=row.dataset,
        space=SearchSpace.model_validate(row.search_space),
        config=SearchConfig.model_validate(row.config),
        upload_id=None if row.upload_id is None else str(row.upload_id),
    )


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON has them: a loss that is NaN or infinite, which PostgreSQL would refuse, becomes null."""
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _json(value)
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
