"""What the calls of all kinds share: a connection, jobs that are submitted, lists that come in pages."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from app.client.errors import SearchEndedError, ServiceError, UnreachableError
from app.client.paths import search_path
from app.client.transport import Transport
from app.domain.search_space import SearchSpace
from app.schemas.search import SearchView

ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})
PAGE_SIZE = 100

PATIENCE_S = 60.0
"""How long a service may be away (a restart) before a call that follows a search gives up."""

RETRY_S = 0.5
"""Pause before a service that is away is asked again."""

SearchId = uuid.UUID | str
Space = str | SearchSpace | Mapping[str, Any]


class Calls:
    """Calls over one connection."""

    def __init__(self, api: Transport) -> None:
        self._api = api

    def search(self, search_id: SearchId) -> SearchView:
        """Return where a search or a job stands and what it has found."""
        return SearchView.model_validate(self._api.get(search_path(search_id)))

    def wait(self, search_id: SearchId, *, timeout_s: float | None = None, poll_s: float = 1.0) -> SearchView:
        """Return a search or a job once it has succeeded.

        Raises:
            SearchEndedError: If it has failed or was cancelled.
            TimeoutError: If it is not over after ``timeout_s`` seconds; it goes on.
        """
        start = time.monotonic()
        while (search := self._read_patiently(search_id)).state not in ENDED_STATES:
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                raise TimeoutError(f"{search.kind} {search_id} is {search.state} after {timeout_s:g} s; it goes on")
            time.sleep(poll_s)
        if search.state != "succeeded":
            raise SearchEndedError(search)
        return search

    def _read_patiently(self, search_id: SearchId) -> SearchView:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.search(search_id)
            except (UnreachableError, ServiceError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_S)

    def _submit(
        self, path: str, body: dict[str, Any], webhook_url: str | None, idempotency_key: str | None
    ) -> SearchView:
        if webhook_url is not None:
            body = {**body, "webhook_url": webhook_url}
        return SearchView.model_validate(self._api.post(path, body, idempotency_key=idempotency_key))


def read_pages(api: Transport, path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
    """Return the items of a paged list: ``limit`` of them, or all where it is 0."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        size = min(PAGE_SIZE, limit - len(items)) if limit else PAGE_SIZE
        page = api.get(path, size=size, cursor=cursor, **query)
        items += page["items"]
        cursor = page["next_page"]
        if cursor is None or (limit and len(items) >= limit):
            return items


def json_space(space: Space) -> Any:
    """Return a search space as a request has it."""
    return space.model_dump(mode="json") if isinstance(space, SearchSpace) else space
