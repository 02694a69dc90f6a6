"""What submitting a search and submitting a job have in common: the idempotency key, the answers, the wake-up."""

from typing import Annotated, Any

from fastapi import Header, Response, status
from fastapi_rfc9457 import Problem
from sqlalchemy import Engine

from app import queue
from app.api.dependencies import errors
from app.db.engine import transaction
from app.errors import ContentTooLargeError, IdempotencyConflictError
from app.schemas.search import SearchView
from app.services import lifecycle
from app.services.callers import Caller
from app.services.submission import Submitted
from app.services.view_cache import view_cache

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body gives the same search, however often it is sent.",
    ),
]


def submission_responses(what: str, *kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that submits.

    Args:
        what: ``search`` or ``job``.
        kinds: Its problems, besides those that every submission can meet.
    """
    location = {"schema": {"type": "string"}, "description": f"Where the {what} can be read."}
    return {
        200: {"model": SearchView, "description": f"This idempotency key gave this {what} before."},
        202: {"headers": {"Location": location}},
        **errors(*kinds, IdempotencyConflictError, ContentTooLargeError),
    }


def answer_submitted(engine: Engine, caller: Caller, submitted: Submitted, response: Response) -> SearchView:
    """Wake workers for what is stored, say where it is, and return it; 200 for what was there before."""
    if submitted.is_new:
        with transaction(engine) as session:
            lifecycle.note_request(session, submitted.search_id)
    else:
        response.status_code = status.HTTP_200_OK
    queue.wake(submitted.step_ids)
    response.headers["Location"] = f"/search/{submitted.search_id}"
    # what is kept from here on answers whoever polls
    return SearchView.model_validate_json(view_cache(engine).read(submitted.search_id, caller).json)
