"""A client against answers made up here."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx2

from app.client import NasAtlas
from app.schemas.examples import SEARCH

Answer = Callable[[httpx2.Request], httpx2.Response]


ID = uuid.UUID(SEARCH["id"])


def answering(answer: Answer, api_key: str | None = None) -> NasAtlas:
    return NasAtlas("http://service/", api_key, transport=httpx2.MockTransport(answer))


def always(status: int, body: Any = None, **headers: str) -> NasAtlas:
    return answering(lambda _: httpx2.Response(status, json=body, headers=headers))


def events(*items: tuple[str, str, Any]) -> bytes:
    return "".join(
        f"event: {kind}\ndata: {json.dumps(data)}\nid: {event_id}\n\n" for event_id, kind, data in items
    ).encode()


def in_state(state: str, **values: Any) -> dict[str, Any]:
    return {**SEARCH, "state": state, **values}
