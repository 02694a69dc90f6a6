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

from fastapi import APIRouter, Depends, Header, Request, Response, status
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.authentication import Reader
from app.api.dependencies import Database, errors
from app.db.engine import transaction
from app.errors import SearchNotFoundError
from app.services import api_keys, lifecycle, search_events
from app.services.search_events import News, Position

router = APIRouter(prefix="/search", tags=["searches"])

POLL_S = 0.5
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})
_EXAMPLE = """event: milestone
data: {"sequence": 4, "at": "2026-01-05T10:03:20Z", "kind": "step_done", "step": "fit_gcn", "round_index": 0, ...}
id: 4-running-5be1c4a09d3f7e26

event: progress
data: {"id": "8c4f6a0e-...", "state": "running", "phase": "reevaluating", "progress": 0.62, ...}
id: 4-running-0a1b2c3d4e5f6071
"""


class NothingMoreToCome(Exception):  # noqa: N818 - no error: it ends a stream before it begins
    """The search is over, and the client has all of its events: 204, at which browsers stop asking."""


async def end_of_events(request: Request, error: Exception) -> Response:
    """Answer :class:`NothingMoreToCome`."""
    return Response(status_code=status.HTTP_204_NO_CONTENT)


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


LastEventId = Annotated[
    str | None,
    Header(description="Id of the last event that you have: the stream goes on after it. Browsers send it themselves."),
]


def _start(search_id: uuid.UUID, engine: Database, caller: Reader, last_event_id: LastEventId = None) -> Position:
    # before the stream begins, while there can still be a 404
    with transaction(engine) as session:
        is_over = lifecycle.require(session, search_id, caller).state in TERMINAL_STATES
        position = search_events.start(session, search_id, last_event_id)
    if is_over and not search_events.news(engine, search_id, caller, position).events:
        raise NothingMoreToCome
    return position


@router.get(
    "/{search_id}/events",
    summary="Follow a search",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {"example": _EXAMPLE}}},
        204: {"description": "The search is over, and you have all of its events; browsers stop asking."},
        **errors(SearchNotFoundError),
    },
)
async def events(
    search_id: uuid.UUID,
    position: Annotated[Position, Depends(_start)],
    engine: Database,
    request: Request,
    caller: Reader,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the search (as `GET /search/{id}` gives it) whenever it changes, until it is over.

    `state` events come with every change of the state, `progress` events with every other change; `milestone` events
    say what was reached for good: every state, every step that is done. Comments keep the connection alive while
    nothing happens.

    A client that lost its connection sends the last event's id as `Last-Event-ID`, to any of the service's processes,
    and gets the milestones that it missed, and the search as it is now if that has changed.
    """

    def read(since: Position) -> News | None:
        """What is new; None once the search is deleted, or the caller's key no longer valid."""
        # each in a transaction of its own: who waits for a second connection while holding one may wait for ever
        with transaction(engine) as session:
            is_valid = api_keys.still_valid(session, caller)
        with contextlib.suppress(SearchNotFoundError):
            return search_events.news(engine, search_id, caller, since) if is_valid else None
        return None

    stop: ServerStop = request.app.state.server_stop
    while not stop:
        news = await run_in_threadpool(read, position)
        if news is None:
            return
        for event in news.events:
            yield ServerSentEvent(event=event.kind, raw_data=event.data, id=str(event.position))
        if news.state in TERMINAL_STATES:
            return
        position = news.position
        await asyncio.sleep(POLL_S)
