"""Cancels, resumes and deletes searches. The flag is in PostgreSQL; workers look at it every few seconds of work."""

import uuid

from asgi_correlation_id import correlation_id
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.db import deletion, searches
from app.db.models import SearchRow
from app.errors import SearchNotFoundError, SearchStateError
from app.services.callers import Caller
from app.services.quotas import Quotas


def require(session: Session, search_id: uuid.UUID, caller: Caller, *, lock: bool = False) -> SearchRow:
    """Return a search; one of another owner does not exist for the caller.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    search = searches.get_search(session, search_id, lock=lock)
    if search is None or not caller.sees(search.owner):
        raise no_such_search(search_id)
    return search


def require_search(session: Session, search_id: uuid.UUID, caller: Caller, *, keep: bool = False) -> SearchRow:
    """Return a search proper, not a job about one of its architectures.

    Args:
        session: The database.
        search_id: The search.
        caller: Who asks.
        keep: Whether it must not be deleted before the transaction ends, because a job about it is stored.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    search = require(session, search_id, caller)
    if keep and not searches.keep(session, search_id):
        raise no_such_search(search_id)
    if search.kind != "search":
        raise SearchNotFoundError(
            detail=f"{search_id} is no search but a job ({search.kind}); use "
            + (f"the id of its search, {search.origin_id}" if search.origin_id else "the id of a search")
        )
    return search


def no_such_search(search_id: uuid.UUID) -> SearchNotFoundError:
    """Return the answer to whoever asks for a search that is not there, or not for them."""
    return SearchNotFoundError(detail=f"there is no search {search_id}; GET /search lists those there are")


def cancel(session: Session, search_id: uuid.UUID, caller: Caller) -> None:
    """Cancel a search: at once where no worker is at it, else as soon as its workers notice. Idempotent.

    Raises:
        SearchNotFoundError: If there is none of that id.
        SearchStateError: If it is over.
    """
    search = require(session, search_id, caller, lock=True)
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


def resume(session: Session, search_id: uuid.UUID, caller: Caller, quotas: Quotas) -> list[int]:
    """Let a failed or cancelled search go on from what it has; one that is under way just goes on.

    Returns:
        The steps to wake after the commit.

    Raises:
        SearchNotFoundError: If there is none of that id.
        SearchStateError: If it has succeeded.
        TooManyRequestsError: If its owner has as much open as one may have.
    """
    search = require(session, search_id, caller, lock=True)
    if search.state == "succeeded":
        raise SearchStateError(
            detail=f"search {search_id} has succeeded already; ask its tables with GET /lookup?search_id={search_id}"
            if search.kind == "search"
            else f"the job {search_id} ({search.kind}) has succeeded already; there is nothing left to do",
            state=search.state,
        )
    if search.state in ("failed", "cancelled", "cancelling"):
        if search.state != "cancelling":  # that one is open still
            quotas.lock(session, search.owner)
            # its rows were asked for when it was submitted; only an owner that has too many by now is refused
            quotas.check(session, search.owner, num_new_rows=0)
        state = "queued" if search.started_at is None else "running"
        searches.set_state(session, search_id, state, error=None, finished_at=None)
    return searches.reopen_steps(session, search_id)


def note_request(session: Session, search_id: uuid.UUID) -> None:
    """Store the id of the request that lets a search go on, for the workers' log lines about it."""
    searches.set_request(session, search_id, correlation_id.get())


def delete(session: Session, search_id: uuid.UUID, caller: Caller) -> None:
    """Delete a search that is over, with its pairs, tables and the jobs about it; artifacts follow within a minute.

    Raises:
        SearchNotFoundError: If there is none of that id.
        SearchStateError: If it or a job about it is not over, or a worker has not let go of one of them yet.
    """
    search = require(session, search_id, caller, lock=True)
    if search.state not in deletion.ENDED_STATES:
        raise SearchStateError(
            detail=f"search {search_id} is {search.state}; cancel it with POST /search/{search_id}/cancel first",
            state=search.state,
        )
    if searches.has_leased_steps(session, search_id):
        raise SearchStateError(
            detail=f"search {search_id} is {search.state}, but a worker has not let go of it yet; try again "
            "in a moment",
            state=search.state,
        )
    busy = deletion.busy_jobs(session, search_id)
    if busy:
        raise SearchStateError(
            detail=f"search {search_id} is {search.state}, but a job about it is not over: {busy[0]}; cancel it with "
            f"POST /search/{busy[0]}/cancel first, and try again in a moment",
            state=search.state,
        )
    deletion.delete_search(session, search_id)
