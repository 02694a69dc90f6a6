"""Steps and their leases: claim, heartbeat, completion, failure, release, and the reaper's sweep.

A step is claimed by compare-and-set; ``attempt`` fences off whoever held it before. All functions run in the caller's
transaction. Whoever changes a search's state through its steps first locks the search's row, so that two shards that
end at the same time see each other.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, and_, func, select, update
from sqlalchemy.orm import Session

from app.db.models import SearchRow, StepRow

Signal = Literal["go", "cancel", "release", "lost"]
"""What a heartbeat tells the worker."""

RUNNABLE = ("queued", "running")

PUT_OFF_S = 10.0
"""How long a step that was put off is let alone."""

MAX_WOKEN = 100
"""Steps that one sweep of the reaper wakes again."""

_LONG_AGO = dt.datetime.fromtimestamp(0, dt.UTC)
"""A step with this ``woken_at`` is due for waking at the reaper's next sweep."""


@dataclass(frozen=True)
class StepKey:
    """A claimed step: its id and the attempt that claimed it."""

    id: int
    attempt: int


def _expiry(lease_s: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)


def _held(key: StepKey) -> Any:
    return and_(StepRow.id == key.id, StepRow.attempt == key.attempt, StepRow.state == "leased")


def lock_search(session: Session, search_id: uuid.UUID) -> SearchRow | None:
    """Lock a search's row until the transaction ends."""
    return session.get(SearchRow, search_id, with_for_update=True, populate_existing=True)


def claim(session: Session, step_id: int, *, worker: str, lease_s: float) -> Row[Any] | None:
    """Claim a ready step of a runnable search, and mark the search as running.

    The search is locked first: a cancellation either sees this claim, or this claim sees the cancellation.

    Returns:
        The step's columns, or None where somebody else has it or there is nothing to do.
    """
    search_state = session.execute(
        select(SearchRow.state)
        .join(StepRow, StepRow.search_id == SearchRow.id)
        .where(StepRow.id == step_id)
        .with_for_update(of=SearchRow)
    ).scalar_one_or_none()
    if search_state not in RUNNABLE:
        return None
    claimed = session.execute(
        update(StepRow)
        .where(StepRow.id == step_id, StepRow.state == "ready")
        .values(
            state="leased",
            attempt=StepRow.attempt + 1,
            worker=worker,
            started_at=func.now(),
            lease_expires_at=_expiry(lease_s),
            release_requested=False,
            not_before=None,
            error=None,
        )
        .returning(StepRow.__table__)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if claimed is not None:
        session.execute(
            update(SearchRow)
            .where(SearchRow.id == claimed.search_id)
            .values(
                state="running",
                started_at=func.coalesce(SearchRow.started_at, func.now()),
                last_claimed_at=func.clock_timestamp(),
            )
        )
    return claimed


def heartbeat(
    session: Session, key: StepKey, *, progress: float, detail: Mapping[str, Any] | None, lease_s: float
) -> Signal:
    """Renew a lease and store how far the step is; say whether to go on."""
    state = select(SearchRow.state).where(SearchRow.id == StepRow.search_id).scalar_subquery()
    row = session.execute(
        update(StepRow)
        .where(_held(key))
        .values(lease_expires_at=_expiry(lease_s), progress=func.greatest(StepRow.progress, progress), detail=detail)
        .returning(StepRow.release_requested, state.label("search_state"))
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        return "lost"
    if row.search_state in ("cancelling", "cancelled"):
        return "cancel"
    return "release" if row.release_requested else "go"


def finish(session: Session, key: StepKey, result: Mapping[str, Any]) -> bool:
    """Mark a held step as done; False where the lease is lost."""
    done = session.execute(
        update(StepRow)
        .where(_held(key))
        .values(state="done", progress=1.0, result=result, finished_at=func.now(), lease_expires_at=None)
        .returning(StepRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return done is not None


def was_finished(session: Session, key: StepKey) -> bool:
    """Whether this very attempt is stored already: its commit arrived, and the answer to it was lost."""
    done = select(StepRow.id).where(StepRow.id == key.id, StepRow.attempt == key.attempt, StepRow.state == "done")
    return session.execute(done).one_or_none() is not None


def ready_steps(session: Session, search_id: uuid.UUID) -> list[int]:
    """Return the ids of a search's ready steps."""
    ready = select(StepRow.id).where(StepRow.search_id == search_id, StepRow.state == "ready")
    return sorted(session.scalars(ready))


def finished(session: Session, search_id: uuid.UUID, kind: str) -> Sequence[Row[int, dict[str, Any], dict[str, Any]]]:
    """Return (round_index, payload, result) of a search's finished steps of a kind that belong to rounds."""
    return session.execute(
        select(StepRow.round_index, StepRow.payload, StepRow.result)
        .where(
            StepRow.search_id == search_id,
            StepRow.kind == kind,
            StepRow.state == "done",
            StepRow.round_index.is_not(None),
        )
        .order_by(StepRow.round_index, StepRow.shard_index)
    ).all()


def hand_back(session: Session, key: StepKey) -> bool:
    """Make a held step ready again, for a worker that was cancelled or shuts down; False where the lease is lost.

    It is due for waking at once: where the search goes on, the reaper's next sweep sends it to another worker.
    """
    released = session.execute(
        update(StepRow)
        .where(_held(key))
        .values(state="ready", lease_expires_at=None, worker=None, woken_at=_LONG_AGO, release_requested=False)
        .returning(StepRow.search_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return released is not None


def fail(session: Session, key: StepKey, reason: str) -> bool:
    """Mark a held step as failed, and its search with it; False where the lease is lost."""
    failed = session.execute(
        update(StepRow)
        .where(_held(key))
        .values(state="failed", error=reason, finished_at=func.now(), lease_expires_at=None)
        .returning(StepRow.search_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if failed is not None:
        _fail_search(session, failed.search_id, reason)
    return failed is not None


def _fail_search(session: Session, search_id: uuid.UUID, reason: str) -> None:
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id, SearchRow.state.in_((*RUNNABLE, "cancelling")))
        .values(state="failed", error=reason, finished_at=func.now())
    )


def insert(session: Session, search_id: uuid.UUID, steps: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert ready steps (``kind``, ``round_index``, ``shard_index``, ``payload``) and return their ids."""
    rows = [StepRow(search_id=search_id, **step) for step in steps]
    session.add_all(rows)
    session.flush()
    return [row.id for row in rows]


def num_unfinished(session: Session, search_id: uuid.UUID, round_index: int | None, kind: str) -> int:
    """How many steps of one kind of a round are not done."""
    statement = select(func.count()).where(
        StepRow.search_id == search_id,
        StepRow.round_index.is_not_distinct_from(round_index),
        StepRow.kind == kind,
        StepRow.state != "done",
    )
    return session.execute(statement).scalar_one()


def settle_cancellation(session: Session, search_id: uuid.UUID) -> None:
    """Turn a search that is being cancelled into a cancelled one as soon as no worker holds a step of it."""
    leased = select(StepRow.id).where(StepRow.search_id == search_id, StepRow.state == "leased")
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id, SearchRow.state == "cancelling", ~leased.exists())
        .values(state="cancelled", finished_at=func.now())
        .execution_options(synchronize_session=False)
    )


def request_release(session: Session, worker: str) -> None:
    """Ask for every step that a worker's children hold to be handed back."""
    session.execute(
        update(StepRow)
        .where(StepRow.state == "leased", StepRow.worker.startswith(f"{worker}/", autoescape=True))
        .values(release_requested=True)
    )


def put_off(session: Session, key: StepKey, reason: str, max_failures: int) -> bool:
    """Make a held step ready again for a later try, because something outside was amiss; False where the lease is lost.

    It counts like a worker's death: what stays amiss fails the search. The reaper wakes the step in its usual time;
    until ``PUT_OFF_S`` have passed nobody takes it who was woken for another one.
    The caller has locked the search.
    """
    step = session.execute(select(StepRow).where(_held(key)).with_for_update()).scalar_one_or_none()
    if step is None:
        return False
    if step.failures + 1 >= max_failures:
        return fail(session, key, f"{reason} (tried {step.failures + 1} times; resume the search when it is mended)")
    step.failures += 1
    step.state, step.error = "ready", reason
    step.worker = step.lease_expires_at = None
    step.woken_at = func.now()
    step.not_before = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, PUT_OFF_S)
    session.flush()
    settle_cancellation(session, step.search_id)
    return True


def expired(session: Session) -> list[tuple[int, uuid.UUID]]:
    """Return (step id, search id) of the steps whose workers are silent for longer than their lease."""
    rows = session.execute(
        select(StepRow.id, StepRow.search_id)
        .where(StepRow.state == "leased", StepRow.lease_expires_at < func.now())
        .order_by(StepRow.id)
    )
    return [(row.id, row.search_id) for row in rows]


def expire(session: Session, step_id: int, max_failures: int) -> StepRow | None:
    """Take back the step of a silent worker; one whose workers died ``max_failures`` times fails its search.

    The caller has locked the search.

    Returns:
        The step as it is now; None where its worker was heard of again.
    """
    step = session.execute(
        select(StepRow)
        .where(StepRow.id == step_id, StepRow.state == "leased", StepRow.lease_expires_at < func.now())
        .with_for_update()
    ).scalar_one_or_none()
    if step is None:
        return None
    step.failures += 1
    step.lease_expires_at = None
    step.woken_at = _LONG_AGO
    if step.failures < max_failures:
        step.state = "ready"
    else:
        step.state = "failed"
        step.error = (
            f"the worker of step {step.kind} died {step.failures} times (last: {step.worker}); see the worker's log, "
            "e.g. for a lack of memory, then resume the search"
        )
        _fail_search(session, step.search_id, step.error)
    session.flush()
    settle_cancellation(session, step.search_id)
    return step


def due_for_waking(session: Session, rewake_s: float) -> list[int]:
    """Return the ready steps of runnable searches whose last wake-up is too long ago, and note a new one.

    At most ``MAX_WOKEN``, those that wait the longest: whoever is woken takes the fairest step, not the one that the
    message names, so a message for each of a thousand waiting steps would only lengthen the queue.
    """
    age = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, rewake_s)
    runnable = select(SearchRow.id).where(SearchRow.id == StepRow.search_id, SearchRow.state.in_(RUNNABLE))
    due = (
        select(StepRow.id)
        .where(StepRow.state == "ready", StepRow.woken_at < age, runnable.exists())
        .order_by(StepRow.woken_at, StepRow.id)
        .limit(MAX_WOKEN)
        # two reapers neither wait for each other nor wake a step twice
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(
        update(StepRow)
        .where(StepRow.id.in_(due.cte("due").select()))
        .values(woken_at=func.now())
        .returning(StepRow.id)
        .execution_options(synchronize_session=False)
    )
    return sorted(row.id for row in rows)
