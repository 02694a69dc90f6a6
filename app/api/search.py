"""Searches: submit, list, read, cancel, resume, delete."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response, status
from fastapi_pagination.ext.sqlalchemy import paginate

from app import queue
from app.api.authentication import Reader, Submitter
from app.api.dependencies import AppSettings, Database, errors
from app.api.pages import Page, PairPageParams, SearchPageParams
from app.db import searches
from app.db.engine import transaction
from app.errors import (
    ContentTooLargeError,
    IdempotencyConflictError,
    RoundNotFoundError,
    SearchNotFoundError,
    SearchStateError,
)
from app.schemas.search import ArchitectureView, PairView, RoundView, SearchState, SearchSummary, SearchView
from app.schemas.search_request import SearchRequest
from app.services import lifecycle, search_view, submission
from app.services.quotas import Quotas
from app.services.view_cache import view_cache

router = APIRouter(prefix="/search", tags=["searches"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body gives the same search, however often it is sent.",
    ),
]
Code = Annotated[str, Path(max_length=64, description="One digit per cell.", examples=["3333333333333333333"])]


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Submit a search",
    responses={
        200: {"model": SearchView, "description": "This idempotency key gave this search before."},
        202: {"headers": {"Location": {"schema": {"type": "string"}, "description": "Where the search can be read."}}},
        **errors(IdempotencyConflictError, ContentTooLargeError),
    },
)
def submit(
    request: SearchRequest,
    response: Response,
    engine: Database,
    settings: AppSettings,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> SearchView:
    """Check a request and queue its search. Everything that can be known to be wrong is said now."""
    with transaction(engine) as session:
        submitted = submission.submit(
            session,
            request,
            caller,
            idempotency_key=idempotency_key,
            data_root=settings.data_root,
            quotas=Quotas.of(settings),
        )
        if submitted.is_new:
            lifecycle.note_request(session, submitted.search_id)
    queue.wake(submitted.step_ids)
    if not submitted.is_new:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/search/{submitted.search_id}"
    with transaction(engine) as session:
        return search_view.read_one(session, submitted.search_id, caller)


@router.get("", summary="List searches, newest first", responses=errors())
def list_searches(
    engine: Database,
    caller: Reader,
    params: Annotated[SearchPageParams, Depends()],
    state: Annotated[SearchState | None, Query(description="Only those in this state.")] = None,
) -> Page[SearchSummary]:
    """Return a page of your searches; ask for the next one with `cursor` = its `next_page`."""
    with transaction(engine) as session:
        page: Page[SearchSummary] = paginate(
            session,
            searches.searches_newest_first(state, caller.visible_owner),
            params,
            transformer=lambda rows: search_view.summaries(session, rows),
        )
        return page


@router.get("/{search_id}", summary="Read a search", response_model=SearchView, responses=errors(SearchNotFoundError))
def read(search_id: uuid.UUID, engine: Database, caller: Reader) -> Response:
    """Return where a search stands and what it has found so far."""
    return Response(view_cache(engine).read(search_id, caller).json, media_type="application/json")


@router.get(
    "/{search_id}/rounds/{round_index}",
    summary="Read a round",
    responses=errors(SearchNotFoundError, RoundNotFoundError),
)
def read_round(search_id: uuid.UUID, round_index: int, engine: Database, caller: Reader) -> RoundView:
    """Return one round of a search."""
    with transaction(engine) as session:
        return search_view.read_round(session, search_id, round_index, caller)


@router.get("/{search_id}/pairs", summary="List arch-accuracy pairs", responses=errors(SearchNotFoundError))
def list_pairs(
    search_id: uuid.UUID,
    engine: Database,
    caller: Reader,
    params: Annotated[PairPageParams, Depends()],
    round_index: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    source: Literal["sampled", "reevaluated"] | None = None,
) -> Page[PairView]:
    """Return a page of the pairs found so far, by round, source and code."""
    with transaction(engine) as session:
        search = lifecycle.require(session, search_id, caller)
        page: Page[PairView] = paginate(
            session,
            searches.pairs_in_order(search_id, round_index, source),
            params,
            transformer=lambda rows: search_view.pair_views(search, rows),
        )
        return page


@router.get("/{search_id}/architectures/{code}", summary="Read an architecture", responses=errors(SearchNotFoundError))
def read_architecture(search_id: uuid.UUID, code: Code, engine: Database, caller: Reader) -> ArchitectureView:
    """Return an architecture's costs, its pairs, and what each round's table predicts for it."""
    with transaction(engine) as session:
        return search_view.read_architecture(session, search_id, code, caller)


@router.post(
    "/{search_id}/cancel",
    summary="Cancel a search",
    responses=errors(SearchNotFoundError, SearchStateError),
)
def cancel(search_id: uuid.UUID, engine: Database, caller: Submitter) -> SearchView:
    """Stop a search within seconds. What it has found stays, and it can be resumed."""
    with transaction(engine) as session:
        lifecycle.cancel(session, search_id, caller)
    with transaction(engine) as session:
        return search_view.read_one(session, search_id, caller)


@router.post(
    "/{search_id}/resume",
    summary="Resume a search",
    responses=errors(SearchNotFoundError, SearchStateError),
)
def resume(search_id: uuid.UUID, engine: Database, settings: AppSettings, caller: Submitter) -> SearchView:
    """Let a failed or cancelled search go on from what it has; one that is under way just goes on."""
    with transaction(engine) as session:
        step_ids = lifecycle.resume(session, search_id, caller, Quotas.of(settings))
        lifecycle.note_request(session, search_id)
    queue.wake(step_ids)
    with transaction(engine) as session:
        return search_view.read_one(session, search_id, caller)


@router.delete(
    "/{search_id}",
    summary="Delete a search",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=errors(SearchNotFoundError, SearchStateError),
)
def delete(search_id: uuid.UUID, engine: Database, caller: Submitter) -> None:
    """Delete a search that is over, for good: its pairs, its lookup tables and its checkpoints."""
    with transaction(engine) as session:
        lifecycle.delete(session, search_id, caller)
