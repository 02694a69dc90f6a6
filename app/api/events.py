"""A search's progress as server-sent events, polled from the database without holding a connection in between."""

import asyncio
import contextlib
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.authentication import Reader
from app.api.dependencies import Database, errors
from app.db.engine import autocommit, transaction
from app.errors import SearchNotFoundError
from app.schemas.search import SearchView
from app.services import api_keys, lifecycle
from app.services.view_cache import view_cache

router = APIRouter(prefix="/search", tags=["searches"])

POLL_S = 0.5
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class ServerStop:
    """Knows that the server was asked to end, so that streams end at once instead of holding it up.

    uvicorn waits for open answers before it tells the application anything, and streams never end by themselves.
    """

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM and SIGINT before the server's own handlers get them; nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def note(number: int, frame: FrameType | None) -> None:
            self._asked = True
            handler = previous[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        for number, handler in previous.items():
            if callable(handler):
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in previous.items():
                if signal.getsignal(number) is note:
                    signal.signal(number, handler)


def _existing(search_id: uuid.UUID, engine: Database, caller: Reader) -> uuid.UUID:
    # before the stream begins, while there can still be a 404
    with transaction(engine) as session:
        lifecycle.require(session, search_id, caller)
    return search_id


@router.get(
    "/{search_id}/events",
    summary="Follow a search",
    response_class=EventSourceResponse,
    responses=errors(SearchNotFoundError),
)
async def events(
    search_id: Annotated[uuid.UUID, Depends(_existing)], engine: Database, request: Request, caller: Reader
) -> AsyncIterator[ServerSentEvent]:
    """Stream the search (as `GET /search/{id}` gives it) whenever it changes, until it is over.

    `state` events come with every change of the state, `progress` events with every other change. Comments keep the
    connection alive while nothing happens.
    """

    def read() -> SearchView | None:
        """The search; None once it is deleted, or the caller's key no longer valid."""
        with autocommit(engine) as session:
            if not api_keys.still_valid(session, caller):
                return None
        with contextlib.suppress(SearchNotFoundError):
            return view_cache(engine).read(search_id, caller).view
        return None

    stop: ServerStop = request.app.state.server_stop
    last: SearchView | None = None
    while not stop:
        search = await run_in_threadpool(read)
        if search is None:
            return
        if last is None or search.state != last.state:
            yield ServerSentEvent(event="state", data=search)
        elif search.model_copy(update={"eta_s": None}) != last.model_copy(update={"eta_s": None}):
            yield ServerSentEvent(event="progress", data=search)
        if search.state in TERMINAL_STATES:
            return
        last = search
        await asyncio.sleep(POLL_S)
