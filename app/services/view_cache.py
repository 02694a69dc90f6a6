"""Searches as they were put together last, for as long as nothing about them changes.

Putting one together takes five queries and some milliseconds; two hundred clients that poll, and everybody who follows
events, ask for the same again and again. Each asks the database once whether it is still the same.
"""

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from sqlalchemy import Engine

from app.db.engine import transaction
from app.db.lookup import reading
from app.db.search_version import read_version
from app.schemas.search import SearchView
from app.services import search_view
from app.services.callers import EVERYONE, Caller
from app.services.lifecycle import no_such_search

MAX_AGE_S = 15.0
"""How old the rest may be (the time that is left, and what other rows than the search's own and its steps' say)."""

MAX_AGE_QUEUED_S = 300.0
"""The same of a search that has not begun: it has no other rows yet, and no time that is left."""

MAX_KEPT = 2048

MAX_ASSEMBLED_AT_ONCE = 4
"""More would only hold each other up, and those who ask for what is kept."""


@dataclass(frozen=True)
class KeptView:
    """A search as it was put together; as text, because the garbage collector walks over two thousand views at length.

    Attributes:
        json: The view as JSON.
        state: The search's.
        digest: Of all but the time that is left: that changes with the clock.
        stamp: The version that it is of.
        max_age_s: How old it may become although its version is still the same.
        made_at: When it was put together, by the monotonic clock.
    """

    json: str
    state: str
    digest: str
    stamp: str
    max_age_s: float
    made_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, view: SearchView, stamp: str) -> Self:
        """Keep a view of a version."""
        has_begun = view.state != "queued" or view.started_at is not None
        return cls(
            view.model_dump_json(),
            view.state,
            hashlib.sha256(view.model_dump_json(exclude={"eta_s"}).encode()).hexdigest()[:16],
            stamp,
            MAX_AGE_S if has_begun else MAX_AGE_QUEUED_S,
        )

    def is_of(self, stamp: str) -> bool:
        """Whether it is still what there is to say of a version."""
        return self.stamp == stamp and time.monotonic() - self.made_at <= self.max_age_s


class ViewCache:
    """Keeps the views of the searches that were asked for last. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Read searches of a database."""
        self._engine = engine
        self._kept: OrderedDict[uuid.UUID, KeptView] = OrderedDict()
        self._lock = threading.Lock()
        self._assembling = [threading.Lock() for _ in range(MAX_ASSEMBLED_AT_ONCE)]

    def read(self, search_id: uuid.UUID, caller: Caller) -> KeptView:
        """Return a search as it is now.

        Raises:
            SearchNotFoundError: If there is none of that id that the caller may see.
        """
        kept = self._current(search_id, self._stamp(search_id, caller))
        if kept is None:
            with self._assembling[hash(search_id) % MAX_ASSEMBLED_AT_ONCE]:
                # whoever was here before may have put it together
                stamp = self._stamp(search_id, caller)
                kept = self._current(search_id, stamp) or self._assemble(search_id, stamp)
        return kept

    def _stamp(self, search_id: uuid.UUID, caller: Caller) -> str:
        with reading(self._engine) as connection:
            version = read_version(connection, search_id)
        if version is None:
            self._forget(search_id)
        if version is None or not caller.sees(version.owner):
            raise no_such_search(search_id)
        return version.stamp

    def _current(self, search_id: uuid.UUID, stamp: str) -> KeptView | None:
        kept = self._kept.get(search_id)
        return kept if kept is not None and kept.is_of(stamp) else None

    def _assemble(self, search_id: uuid.UUID, stamp: str) -> KeptView:
        # the owner has been looked at, and the view is the same for all who may see it
        with transaction(self._engine) as session:
            kept = KeptView.of(search_view.read_one(session, search_id, EVERYONE), stamp)
        self._keep(search_id, kept)
        return kept

    def _keep(self, search_id: uuid.UUID, kept: KeptView) -> None:
        with self._lock:
            self._kept[search_id] = kept
            self._kept.move_to_end(search_id)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def _forget(self, search_id: uuid.UUID) -> None:
        with self._lock:
            self._kept.pop(search_id, None)


@lru_cache(maxsize=8)
def view_cache(engine: Engine) -> ViewCache:
    """Return the process's cache for a database."""
    return ViewCache(engine)
