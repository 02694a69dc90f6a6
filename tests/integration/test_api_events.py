"""Event streams that are cut and taken up again, by a client that must miss nothing."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import EventSource, ServerSentEvent
from sqlalchemy import update

from app.db.engine import transaction
from app.db.models import StepRow
from app.main import create_app
from app.settings import Settings


def events_of(client: TestClient, search_id: uuid.UUID, last_event_id: str | None = None) -> list[ServerSentEvent]:
    """All events of a search that is over."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with client.stream("GET", f"/search/{search_id}/events", headers=headers) as response:
        if response.status_code == 204:
            return []
        return list(EventSource(response))


def first_events(client: TestClient, search_id: uuid.UUID, then: Any) -> Iterator[ServerSentEvent]:
    """The events of a search that goes on; ``then`` is called after the first one."""
    with client.stream("GET", f"/search/{search_id}/events") as response:
        for event in EventSource(response):
            yield event
            if then is not None:
                then()
                then = None


def finish(factory: Any, step_id: int) -> None:
    with transaction(factory.engine) as session:
        session.execute(update(StepRow).where(StepRow.id == step_id).values(state="done", progress=1.0))


@pytest.fixture
def other_process(api_settings: Settings) -> Iterator[TestClient]:
    """Another process of the API: nothing of the first one's memory."""
    with TestClient(create_app(api_settings)) as client:
        yield client


def test_a_client_that_was_cut_off_gets_what_it_missed(
    client: TestClient, other_process: TestClient, factory: Any
) -> None:
    search = factory.search(state="running", num_tables=0)
    shards = [factory.step(search.id, "evaluate_shard", round_index=0, shard_index=i, state="leased") for i in (0, 1)]

    def go_on_and_be_cancelled() -> None:
        finish(factory, shards[0])
        factory.change(search.id, state="cancelled")

    seen = list(first_events(client, search.id, go_on_and_be_cancelled))
    # the connection broke after the first milestone
    cut = next(position for position, event in enumerate(seen) if event.event == "milestone")
    # meanwhile it goes on, to another end
    factory.change(search.id, state="running")
    finish(factory, shards[1])
    factory.change(search.id, state="failed", error="broken")

    rest = events_of(other_process, search.id, seen[cut].id)
    told = [json.loads(event.data) for event in [*seen[: cut + 1], *rest] if event.event == "milestone"]
    assert [m["sequence"] for m in told] == list(range(2, 2 + len(told)))
    assert [(m["kind"], m["state"] or m["step"], m["shard_index"]) for m in told] == [
        ("step_done", "evaluate_shard", 0),
        ("state", "cancelled", None),
        ("state", "running", None),
        ("step_done", "evaluate_shard", 1),
        ("state", "failed", None),
    ]
    assert [event.event for event in rest][-1] == "state"
    assert json.loads(rest[-1].data)["error"] == "broken"
    assert len({event.id for event in [*seen, *rest]}) == len({*seen, *rest})


def test_ids_are_the_same_in_every_process(client: TestClient, other_process: TestClient, factory: Any) -> None:
    search = factory.search(num_tables=0)
    (first,), (second,) = events_of(client, search.id), events_of(other_process, search.id)
    assert first == second
    assert first.id.startswith("1-succeeded-")


def test_who_has_everything_need_not_come_again(client: TestClient, factory: Any) -> None:
    search = factory.search(num_tables=0)
    (event,) = events_of(client, search.id)
    response = client.get(f"/search/{search.id}/events", headers={"Last-Event-ID": event.id})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("last_event_id", ["", "7", "1-succeeded", "99-running-00", "1-succeeded-00; drop", "\u0661--"])
def test_ids_that_are_not_ours_begin_anew(client: TestClient, factory: Any, last_event_id: str) -> None:
    search = factory.search(num_tables=0)
    with client.stream(
        "GET", f"/search/{search.id}/events", headers={"Last-Event-ID": last_event_id.encode()}
    ) as response:
        assert [event.event for event in EventSource(response)] == ["state"]


def test_a_search_that_is_not_there(client: TestClient) -> None:
    response = client.get(f"/search/{uuid.uuid4()}/events", headers={"Last-Event-ID": "1--"})
    assert response.status_code == 404
