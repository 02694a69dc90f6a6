"""Calls about searches: submit, follow, cancel, resume."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from app.client.calls import ENDED_STATES, PATIENCE_S, RETRY_S, Calls, SearchId, Space, json_space, read_pages
from app.client.errors import ServiceError, UnreachableError
from app.client.paths import search_path
from app.domain.search_config import PresetName
from app.schemas.events import MilestoneView
from app.schemas.search import JobKind, SearchState, SearchSummary, SearchView

_SUMMARIES = TypeAdapter(list[SearchSummary])


@dataclass(frozen=True)
class SearchEvent:
    """An event of a search.

    Attributes:
        id: Gives the events after this one to :meth:`SearchCalls.events`.
        kind: ``state`` or ``progress`` with the search, or ``milestone``.
        data: The search as it is then, or what it has reached for good.
    """

    id: str
    kind: Literal["state", "progress", "milestone"]
    data: SearchView | MilestoneView


class SearchCalls(Calls):
    """Calls about searches."""

    def submit(
        self,
        dataset: str = "digits",
        search_space: Space = "fairnas",
        *,
        preset: PresetName = "quick",
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        **configuration: Any,
    ) -> SearchView:
        """Submit a search.

        Args:
            dataset: Name of the data set.
            search_space: A preset's name, or a space of your own.
            preset: Whose values hold for every field that is not given.
            webhook_url: Told when the search ends.
            idempotency_key: The same key with the same request gives the same search.
            **configuration: Any field of the configuration, e.g. ``seed=1, epochs=10``.
        """
        body = {"dataset": dataset, "search_space": json_space(search_space), "preset": preset, **configuration}
        return self._submit("/search", body, webhook_url, idempotency_key)

    def searches(
        self, state: SearchState | None = None, kind: JobKind | Literal["all"] = "search", limit: int = 50
    ) -> list[SearchSummary]:
        """Return searches, newest first; at most ``limit``, all where it is 0."""
        return _SUMMARIES.validate_python(read_pages(self._api, "/search", limit, state=state, kind=kind))

    def events(self, search_id: SearchId, last_event_id: str | None = None) -> Iterator[SearchEvent]:
        """Yield a search's events until the stream ends, from the present or after an event that you have."""
        for event in self._api.events(search_path(search_id, "events"), last_event_id):
            if event.event == "milestone":
                yield SearchEvent(event.id, "milestone", MilestoneView.model_validate_json(event.data))
            elif event.event in ("state", "progress"):
                kind: Literal["state", "progress"] = "state" if event.event == "state" else "progress"
                yield SearchEvent(event.id, kind, SearchView.model_validate_json(event.data))

    def follow(self, search_id: SearchId, *, patience_s: float = PATIENCE_S) -> Iterator[SearchView]:
        """Yield a search whenever it changes, until it is over; a connection that breaks is taken up again.

        Raises:
            UnreachableError: If the service is away for longer than ``patience_s``.
        """
        last_event_id, deadline = None, time.monotonic() + patience_s
        while True:
            try:
                for event in self.events(search_id, last_event_id):
                    last_event_id, deadline = event.id, time.monotonic() + patience_s
                    if isinstance(event.data, SearchView):
                        yield event.data
                        if event.data.state in ENDED_STATES:
                            return
            except (UnreachableError, ServiceError):
                if time.monotonic() > deadline:
                    raise
            # the process that served the stream is shutting down, or gone
            time.sleep(RETRY_S)

    def cancel(self, search_id: SearchId) -> SearchView:
        """Stop a search or a job within seconds; what it has found stays."""
        return SearchView.model_validate(self._api.post(search_path(search_id, "cancel")))

    def resume(self, search_id: SearchId) -> SearchView:
        """Let a failed or cancelled search or job go on from what it has."""
        return SearchView.model_validate(self._api.post(search_path(search_id, "resume")))

    def delete(self, search_id: SearchId) -> None:
        """Delete a search that is over, with all that is its."""
        self._api.delete(search_path(search_id))
