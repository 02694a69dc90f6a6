"""Deleting searches: rows now, artifacts soon after, and nothing orphaned by a crash in between.

The rows of a search (itself, its steps, rounds, pairs, tables and their lookup rows, and the jobs about it with all
that is theirs) go in one transaction, and the same transaction leaves a tombstone for each. Whoever can reach the
artifacts (the reaper) removes those of each tombstone, and only then the tombstone. A crash before the commit leaves
the search whole; a crash at any later moment leaves the tombstone, and the artifacts are removed by the next sweep, or
once more, which does no harm.

A worker that was silent beyond its lease may still write a checkpoint of a search that is gone. So the artifacts are
removed a second time, ``GRACE_S`` later, before the tombstone is forgotten.
"""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.db.models import DeletedSearchRow, LookupRow, LookupTableRow, SearchRow, StepRow

ENDED_STATES = ("succeeded", "failed", "cancelled")

GRACE_S = 3600.0
RETRY_S = 60.0
"""How long artifacts that could not be removed are let alone."""


def _seconds(seconds: float) -> Any:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def busy_jobs(session: Session, search_id: uuid.UUID) -> list[uuid.UUID]:
    """Lock the jobs about a search; return those that are not over, or that somebody else is changing right now.

    Nobody is waited for: a worker that stores a job's result holds the job and asks for its search.
    """
    job_ids = session.scalars(select(SearchRow.id).where(SearchRow.origin_id == search_id).order_by(SearchRow.id)).all()
    over = select(SearchRow.id).where(
        SearchRow.origin_id == search_id, SearchRow.state.in_(ENDED_STATES), ~_at_work().exists()
    )
    free = set(session.scalars(over.with_for_update(skip_locked=True)))
    return [job_id for job_id in job_ids if job_id not in free]


def _at_work() -> Select[int]:
    return select(StepRow.id).where(
        StepRow.search_id == SearchRow.id, StepRow.state == "leased", StepRow.lease_expires_at > func.now()
    )


def delete_search(session: Session, search_id: uuid.UUID) -> None:
    """Delete all rows of a search and of the jobs about it, which the caller has locked, and leave tombstones."""
    jobs = select(SearchRow.id).where(SearchRow.origin_id == search_id)
    gone = [search_id, *session.scalars(jobs)]
    tables = select(LookupTableRow.id).where(LookupTableRow.search_id == search_id)
    # lookup rows have no foreign key: it would double the time of a load
    session.execute(
        delete(LookupRow).where(LookupRow.table_id.in_(tables)).execution_options(synchronize_session=False)
    )
    session.execute(delete(SearchRow).where(SearchRow.id == search_id).execution_options(synchronize_session=False))
    tombstones = [{"search_id": gone_id} for gone_id in gone]
    session.execute(insert(DeletedSearchRow).on_conflict_do_nothing(), tombstones)


def lock_next_outdated(session: Session, retention_days: float) -> uuid.UUID | None:
    """Lock a search that ended longer ago than that, and on which no worker is still at it; None if there is none.

    A search is as young as the last job about it: whoever retrains or exports its architectures still uses it. Jobs go
    with their search.
    """
    before = func.now() - _seconds(retention_days * 86400)
    job = aliased(SearchRow)
    young_job = select(job.id).where(
        job.origin_id == SearchRow.id, or_(job.state.not_in(ENDED_STATES), job.finished_at >= before)
    )
    return session.scalar(
        select(SearchRow.id)
        .where(
            SearchRow.kind == "search",
            SearchRow.state.in_(ENDED_STATES),
            SearchRow.finished_at < before,
            ~_at_work().exists(),
            ~young_job.exists(),
        )
        .order_by(SearchRow.finished_at, SearchRow.id)
        .limit(1)
        # one that is being resumed is none any more
        .with_for_update(skip_locked=True)
    )


def due_tombstones(session: Session, limit: int) -> Sequence[uuid.UUID]:
    """Return deleted searches whose artifacts are to be removed now."""
    due = select(DeletedSearchRow.search_id).where(DeletedSearchRow.due_at <= func.now())
    return session.scalars(due.order_by(DeletedSearchRow.due_at).limit(limit)).all()


def note_artifacts_removed(session: Session, search_id: uuid.UUID) -> None:
    """Forget a tombstone whose time is over; one that is younger is due once more at its end."""
    over = DeletedSearchRow.deleted_at + _seconds(GRACE_S)
    session.execute(
        delete(DeletedSearchRow)
        .where(DeletedSearchRow.search_id == search_id, over <= func.now())
        .execution_options(synchronize_session=False)
    )
    _postpone(session, search_id, over)


def note_artifacts_not_removed(session: Session, search_id: uuid.UUID) -> None:
    """Try a tombstone again later."""
    _postpone(session, search_id, func.now() + _seconds(RETRY_S))


def _postpone(session: Session, search_id: uuid.UUID, due_at: Any) -> None:
    session.execute(
        update(DeletedSearchRow)
        .where(DeletedSearchRow.search_id == search_id)
        .values(due_at=due_at)
        .execution_options(synchronize_session=False)
    )


def searches_to_measure(session: Session, limit: int, interval_s: float) -> Sequence[uuid.UUID]:
    """Return searches whose artifacts may have grown since they were measured: open ones, and those just ended."""
    measured = SearchRow.artifacts_measured_at
    is_open = and_(SearchRow.state.not_in(ENDED_STATES), SearchRow.started_at.is_not(None))
    is_old = measured < func.now() - _seconds(interval_s)
    just_ended = and_(SearchRow.state.in_(ENDED_STATES), SearchRow.started_at.is_not(None))
    return session.scalars(
        select(SearchRow.id)
        .where(
            or_(
                and_(is_open, or_(measured.is_(None), is_old)),
                and_(just_ended, or_(measured.is_(None), measured <= SearchRow.finished_at)),
            )
        )
        .order_by(measured.asc().nulls_first(), SearchRow.id)
        .limit(limit)
    ).all()


def note_artifact_bytes(session: Session, search_id: uuid.UUID, num_bytes: int) -> None:
    """Store the size of a search's artifacts; where its row is locked, that is left to the next sweep."""
    # a table that is being stored holds the row for seconds, and the reaper has others to look after
    free = select(SearchRow.id).where(SearchRow.id == search_id).with_for_update(skip_locked=True)
    session.execute(
        update(SearchRow)
        .where(SearchRow.id.in_(free.cte("free").select()))
        .values(artifact_bytes=num_bytes, artifacts_measured_at=func.now())
        .execution_options(synchronize_session=False)
    )
