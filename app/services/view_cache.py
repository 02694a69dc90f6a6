"""Searches as they were put together last, for as long as nothing about them changes.

Putting one together takes five queries and some milliseconds; two hundred clients that poll, and everybody who follows
events, ask for the same again and again. Each asks the database once whether it is still the same.
"""

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache

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


@dataclass
class KeptView:
    """A search as it was put together.

    Attributes:
        view: What is said about it.
        stamp: The version that it is of.
        made_at: When it was put together, by the monotonic clock.
    """

    view: SearchView
    stamp: str
    made_at: float

    @property
    def is_old(self) -> bool:
        """Whether to put it together again although its version is still the same."""
        has_begun = self.view.state != "queued" or self.view.started_at is not None
        max_age_s = MAX_AGE_S if has_begun else MAX_AGE_QUEUED_S
        return time.monotonic() - self.made_at > max_age_s

    @cached_property
    def json(self) -> bytes:
        """The view as JSON."""
        return self.view.model_dump_json().encode()

    @cached_property
    def digest(self) -> str:
        """Of all but the time that is left: that changes with the clock."""
        return hashlib.sha256(self.view.model_dump_json(exclude={"eta_s"}).encode()).hexdigest()[:16]


class ViewCache:
    """Keeps the views of the searches that were asked for last. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Read searches of a database."""
        self._engine = engine
        self._kept: OrderedDict[uuid.UUID, KeptView] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, search_id: uuid.UUID, caller: Caller) -> KeptView:
        """Return a search as it is now.

        Raises:
            SearchNotFoundError: If there is none of that id that the caller may see.
        """
        with reading(self._engine) as connection:
            version = read_version(connection, search_id)
        if version is None:
            self._forget(search_id)
        if version is None or not caller.sees(version.owner):
            raise no_such_search(search_id)
        kept = self._kept.get(search_id)
        if kept is None or kept.stamp != version.stamp or kept.is_old:
            # the owner has been looked at, and the view is the same for all who may see it
            with transaction(self._engine) as session:
                view = search_view.read_one(session, search_id, EVERYONE)
            kept = KeptView(view, version.stamp, time.monotonic())
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
