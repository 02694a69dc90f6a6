"""What a client that follows a search has not seen yet; all of it is known from the database and from its last event.

An event's id says how far its reader is: the number of the last milestone, and the state and the digest of the last
snapshot of the search, e.g. ``12-running-5be1c4a09d3f7e26``. Any API process can go on from it.
"""

import hashlib
import re
import uuid
from dataclasses import dataclass, replace
from typing import Literal, Self

from sqlalchemy.orm import Session

from app.db import milestones
from app.schemas.events import MilestoneView
from app.schemas.search import SearchView
from app.services import search_view
from app.services.callers import Caller

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
    """An event, with the position of who has read it."""

    kind: EventKind
    data: SearchView | MilestoneView
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


def news(session: Session, search_id: uuid.UUID, caller: Caller, position: Position | None) -> News:
    """Return what has happened to a search since a position; for a new reader: how it is now.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    latest = milestones.latest(session, search_id)
    view = search_view.read_one(session, search_id, caller)
    if position is None or position.sequence > latest:  # the latter was given before a backup was put back
        position = Position(latest)
    events = []
    # read after the search: where that is over, the milestone of its end is among them
    for row in milestones.after(session, search_id, position.sequence):
        position = replace(position, sequence=row.sequence)
        events.append(Event("milestone", MilestoneView.model_validate(row, from_attributes=True), position))
    digest = _digest(view)
    if digest != position.digest:
        kind: EventKind = "state" if view.state != position.state else "progress"
        position = Position(position.sequence, view.state, digest)
        events.append(Event(kind, view, position))
    return News(tuple(events), position, view.state)


def _digest(view: SearchView) -> str:
    """Of all but the time that is left: that changes with the clock."""
    return hashlib.sha256(view.model_dump_json(exclude={"eta_s"}).encode()).hexdigest()[:16]
