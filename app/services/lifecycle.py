"""Cancels and resumes searches. The flag is in PostgreSQL; workers look at it every few seconds of work."""

import uuid

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.db import searches
from app.db.models import SearchRow
from app.errors import SearchNotFoundError, SearchStateError


def require(session: Session, search_id: uuid.UUID, *, lock: bool = False) -> SearchRow:
    """Return a search.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    search = searches.get_search(session, search_id, lock=lock)
    if search is None:
        raise SearchNotFoundError(detail=f"there is no search {search_id}; GET /search lists those there are")
    return search


def require_search(session: Session, search_id: uuid.UUID) -> SearchRow:
    """Return a search proper, not a job about one of its architectures.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    search = require(session, search_id)
    if search.kind != "search":
        raise SearchNotFoundError(
            detail=f"{search_id} is no search but a job ({search.kind}) of search {search.origin_id}; use that id here"
        )
    return search


def cancel(session: Session, search_id: uuid.UUID) -> None:
    """Cancel a search: at once where no worker is at it, else as soon as its workers notice. Idempotent.

    Raises:
        SearchNotFoundError: If there is none of that id.
        SearchStateError: If it is over.
    """
    search = require(session, search_id, lock=True)
    if search.state in ("succeeded", "failed"):
        raise SearchStateError(
            detail=f"search {search_id} has {search.state} already; there is nothing left to cancel", state=search.state
        )
    if search.state == "cancelled":
        return
    if searches.has_leased_steps(session, search_id):
        searches.set_state(session, search_id, "cancelling")
    else:
        searches.set_state(session, search_id, "cancelled", finished_at=func.now())


def resume(session: Session, search_id: uuid.UUID) -> list[int]:
    """Let a failed or cancelled search go on from what it has; one that is under way just goes on.

    Returns:
        The steps to wake after the commit.

    Raises:
        SearchNotFoundError: If there is none of that id.
        SearchStateError: If it has succeeded.
    """
    search = require(session, search_id, lock=True)
    if search.state == "succeeded":
        raise SearchStateError(
            detail=f"search {search_id} has succeeded already; ask its tables with GET /lookup?search_id={search_id}"
            if search.kind == "search"
            else f"the job {search_id} ({search.kind}) has succeeded already; there is nothing left to do",
            state=search.state,
        )
    if search.state in ("failed", "cancelled", "cancelling"):
        state = "queued" if search.started_at is None else "running"
        searches.set_state(session, search_id, state, error=None, finished_at=None)
    return searches.reopen_steps(session, search_id)
