"""What a client that follows a search has not seen yet; all of it is known from the database and from its last event.

An event's id says how far its reader is: the number of the last milestone, and the state and the digest of the last
snapshot of the search, e.g. ``12-running-5be1c4a09d3f7e26``. Any API process can go on from it.
"""

import re
import uuid
from dataclasses import dataclass, replace
from typing import Literal, Self

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import milestones
from app.db.engine import transaction
from app.schemas.events import MilestoneView
from app.services.callers import Caller
from app.services.view_cache import view_cache

_EVENT_ID = re.compile(r"(\d{1,9})-([a-z]*)-([0-9a-f]*)", re.ASCII)

EventKind = Literal["state", "progress", "milestone"]


@dataclass(frozen=True)
class Position:
    """How far the reader of a stream is.

    Attributes:
        sequence: The last milestone that it has.
        state: The search's state in the last snapshot that it has; empty: it has none.
        digest: Of that snapshot.
    """

    sequence: int
    state: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, event_id: str | None) -> Self | None:
        """Return the position of an event's id; None where it is none of ours."""
        match = _EVENT_ID.fullmatch(event_id or "")
        return cls(int(match[1]), match[2], match[3]) if match else None

    def __str__(self) -> str:
        return f"{self.sequence}-{self.state}-{self.digest}"


@dataclass(frozen=True)
class Event:
    """An event, its data as JSON, with the position of who has read it."""

    kind: EventKind
    data: str
    position: Position


@dataclass(frozen=True)
class News:
    """What a reader has not seen yet.

    Attributes:
        events: In order; none where nothing has changed.
        position: Where the reader is after them.
        state: The search's present state.
    """

    events: tuple[Event, ...]
    position: Position
    state: str


def start(session: Session, search_id: uuid.UUID, event_id: str | None) -> Position:
    """Return where the reader of a search's events is: after the last event that it has, or at the present.

    An id that is none of ours, or ahead of the search because a backup was put back, is as good as none.
    """
    position, latest = Position.parse(event_id), milestones.latest(session, search_id)
    return Position(latest) if position is None or position.sequence > latest else position


def news(engine: Engine, search_id: uuid.UUID, caller: Caller, position: Position) -> News:
    """Return what has happened to a search since a position; to a new reader: how it is now.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    kept, events = view_cache(engine).read(search_id, caller), []
    # read after the search: where that is over, the milestone of its end is among them
    with transaction(engine) as session:
        rows = milestones.after(session, search_id, position.sequence)
    for row in rows:
        position = replace(position, sequence=row.sequence)
        milestone = MilestoneView.model_validate(row, from_attributes=True)
        events.append(Event("milestone", milestone.model_dump_json(), position))
    if kept.digest != position.digest:
        kind: EventKind = "state" if kept.state != position.state else "progress"
        position = Position(position.sequence, kept.state, kept.digest)
        events.append(Event(kind, kept.json, position))
    return News(tuple(events), position, kept.state)
