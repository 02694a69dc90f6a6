"""Searches: submit, list, read, cancel, resume, delete."""

import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response, status
from fastapi.responses import StreamingResponse
from fastapi_pagination.ext.sqlalchemy import paginate

from app import queue
from app.api.authentication import Reader, Submitter
from app.api.dependencies import AppSettings, Database, errors
from app.api.limits import Limits
from app.api.pages import Page, PairPageParams, SearchPageParams
from app.api.submissions import IdempotencyKey, answer_submitted, submission_responses
from app.db import searches
from app.db.engine import transaction
from app.errors import (
    DeviceNotFoundError,
    NoTableError,
    RoundNotFoundError,
    SearchNotFoundError,
    SearchStateError,
    TableNotReadyError,
)
from app.schemas.examples import PAIR, SUMMARY, page_of
from app.schemas.search import JobKind, PairView, RoundView, SearchState, SearchSummary, SearchView
from app.schemas.search_request import SearchRequest
from app.services import data_streams, lifecycle, lookup, search_view, submission
from app.services.data_streams import MEDIA_TYPES, StreamFormat
from app.services.limits import AskedLimits
from app.services.quotas import Quotas
from app.services.view_cache import view_cache
from app.services.webhooks import WebhookPolicy

router = APIRouter(prefix="/search", tags=["searches"])

_TABLE_CSV = """"subspace_index","code","predicted_accuracy","multi_adds","params"
0,"00000000",0.8125,17104896,346250
1,"00000001",0.8203125,20212480,412810
"""
_PAIRS_CSV = """"round_index","source","code","accuracy","held_out"
0,"sampled","12212021",0.8625,false
"""


def _streams(csv: str) -> dict[str, Any]:
    return {
        "text/csv": {"schema": {"type": "string"}, "example": csv},
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Submit a search",
    responses=submission_responses("search"),
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
    data = submission.inspect_data(
        engine,
        request,
        caller,
        idempotency_key=idempotency_key,
        data_root=settings.data_root,
        upload_root=settings.uploads(),
    )
    with transaction(engine) as session:
        submitted = submission.submit(
            session,
            request,
            caller,
            data=data,
            idempotency_key=idempotency_key,
            data_root=settings.data_root,
            upload_root=settings.uploads(),
            quotas=Quotas.of(settings),
            webhooks=WebhookPolicy.of(settings),
        )
    return answer_submitted(engine, caller, submitted, response)


@router.get(
    "",
    summary="List searches, newest first",
    responses={200: {"content": {"application/json": {"example": page_of(SUMMARY)}}}, **errors()},
)
def list_searches(
    engine: Database,
    caller: Reader,
    params: Annotated[SearchPageParams, Depends()],
    state: Annotated[SearchState | None, Query(description="Only those in this state.")] = None,
    kind: Annotated[
        JobKind | Literal["all"], Query(description="Searches, or jobs about their architectures, or all.")
    ] = "search",
) -> Page[SearchSummary]:
    """Return a page of your searches; ask for the next one with `cursor` = its `next_page`."""
    with transaction(engine) as session:
        page: Page[SearchSummary] = paginate(
            session,
            searches.searches_newest_first(state, caller.visible_owner, None if kind == "all" else kind),
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
    responses=errors(SearchNotFoundError, RoundNotFoundError, DeviceNotFoundError, TableNotReadyError),
)
def read_round(search_id: uuid.UUID, round_index: int, engine: Database, caller: Reader, asked: Limits) -> RoundView:
    """Return one round of a search; with limits also how well its table ranks what meets them (`band_tau`)."""
    with transaction(engine) as session:
        view = search_view.read_round(session, search_id, round_index, caller)
    if view.table_digest is None or view.quality is None or asked == AskedLimits():
        return view
    band_tau, num_in_band = lookup.tau_within(engine, caller, search_id, round_index, asked)
    quality = view.quality.model_copy(update={"band_tau": band_tau, "num_in_band": num_in_band})
    return view.model_copy(update={"quality": quality})


@router.get(
    "/{search_id}/rounds/{round_index}/table",
    summary="Download a round's lookup table",
    response_class=StreamingResponse,
    responses={
        200: {"description": "One row per architecture.", "content": _streams(_TABLE_CSV)},
        **errors(SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError),
    },
)
def download_table(
    search_id: uuid.UUID,
    round_index: Annotated[int, Path(ge=0, lt=2**31)],
    engine: Database,
    caller: Reader,
    stream_format: Annotated[StreamFormat, Query(alias="format")] = "csv",
) -> StreamingResponse:
    """Stream the whole table: every architecture of the round's subspace with its prediction and costs."""
    header, subspace = lookup.open_table(engine, caller, search_id, round_index)
    stream = data_streams.stream_table(engine, header, subspace, stream_format)
    return _download(stream, stream_format, f"table-{search_id}-{round_index}")


def _download(stream: Iterator[bytes], stream_format: StreamFormat, name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.{stream_format}"'}
    return StreamingResponse(stream, media_type=MEDIA_TYPES[stream_format], headers=headers)


@router.get(
    "/{search_id}/pairs",
    summary="List arch-accuracy pairs",
    response_model=Page[PairView],
    responses={
        200: {"content": {"application/json": {"example": page_of(PAIR)}, **_streams(_PAIRS_CSV)}},
        **errors(SearchNotFoundError),
    },
)
def list_pairs(
    search_id: uuid.UUID,
    engine: Database,
    caller: Reader,
    params: Annotated[PairPageParams, Depends()],
    round_index: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    source: Literal["sampled", "reevaluated"] | None = None,
    stream_format: Annotated[
        StreamFormat | Literal["json"],
        Query(alias="format", description="`json`: a page; `csv`, `parquet`: all of them as a file."),
    ] = "json",
) -> Page[PairView] | StreamingResponse:
    """Return a page of the pairs found so far, by round, source and code, or all of them as a stream."""
    with transaction(engine) as session:
        search = lifecycle.require(session, search_id, caller)
        if stream_format != "json":
            stream = data_streams.stream_pairs(engine, search_id, round_index, source, stream_format)
            return _download(stream, stream_format, f"pairs-{search_id}")
        page: Page[PairView] = paginate(
            session,
            searches.pairs_in_order(search_id, round_index, source),
            params,
            transformer=lambda rows: search_view.pair_views(search, rows),
        )
        return page


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
    """Delete a search that is over, for good: its pairs, lookup tables and checkpoints, and all jobs about it."""
    with transaction(engine) as session:
        lifecycle.delete(session, search_id, caller)
