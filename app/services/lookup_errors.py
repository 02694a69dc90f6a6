"""Why a lookup has nothing to answer from, and what to do about it."""

import uuid

from fastapi_rfc9457 import Problem
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.lookup import reading
from app.domain.whole_percent import whole_percent
from app.errors import NoTableError, SearchNotFoundError, TableNotReadyError
from app.services import search_view
from app.services.callers import Caller


def nothing_to_ask(search_id: uuid.UUID | None) -> Problem:
    """Return the error of a search that is not there, or of a service without any succeeded one."""
    if search_id is not None:
        return SearchNotFoundError(detail=f"there is no search {search_id}; GET /search lists those there are")
    return NoTableError(
        detail="no search has succeeded yet, so there is nothing to ask; submit one with POST /search, or ask a "
        "round of an unfinished one with search_id and round_index"
    )


def only_a_job(job_id: uuid.UUID) -> NoTableError:
    """Return the error of a job about an architecture or a device, asked as if it were a search."""
    return NoTableError(detail=f"{job_id} is no search but a job beside searches; GET /search lists the searches")


def not_ready(engine: Engine, caller: Caller, search_id: uuid.UUID, missing: str) -> TableNotReadyError:
    """Return the error of a search that has not got what was asked.

    Args:
        engine: The database.
        caller: Who asks.
        search_id: The search.
        missing: What it has not got.
    """
    with reading(engine) as connection, Session(connection) as session:
        search = search_view.read_one(session, search_id, caller)
    rounds = [r.round_index for r in search.rounds if r.table_digest is not None]
    published = f"ask one of its published rounds ({', '.join(map(str, rounds))}) with round_index" if rounds else ""
    what_to_do = {
        "queued": "wait until it has finished",
        "running": "wait until it has finished",
        "cancelling": f"resume it with POST /search/{search.id}/resume",
        "cancelled": f"resume it with POST /search/{search.id}/resume",
        "failed": f"resume it with POST /search/{search.id}/resume",
        "succeeded": "submit it again, an earlier version made it",
    }[search.state]
    return TableNotReadyError(
        detail=f"search {search.id} is {search.state} at {whole_percent(search.progress)}% ({search.phase}), "
        f"without {missing}; " + ", or ".join(filter(None, [what_to_do, published])),
        search_id=str(search.id),
        state=search.state,
        progress=search.progress,
        rounds_with_tables=rounds,
    )
