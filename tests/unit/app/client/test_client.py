"""The Python client against answers made up here: what it sends, what it returns, and what it raises."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.client import NasAtlas, NotFoundError, ServiceError
from app.schemas.examples import LOOKUP, SEARCH
from app.schemas.search import SearchView
from app.settings import get_settings
from tests.unit.app.client.answers import ID, always, answering, events, in_state


def test_a_search_is_submitted_with_any_field_of_its_configuration() -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(202, json=SEARCH)

    with answering(answer, "nas_abc") as atlas:
        search = atlas.submit("cifar10", seed=3, webhook_url="https://example.org", idempotency_key="mine")
    assert isinstance(search, SearchView)
    assert search.id == ID
    (request,) = sent
    assert (request.method, request.url.path) == ("POST", "/search")
    assert json.loads(request.content) == {
        "dataset": "cifar10",
        "search_space": "fairnas",
        "preset": "quick",
        "seed": 3,
        "webhook_url": "https://example.org",
    }
    assert request.headers["idempotency-key"] == "mine"
    assert request.headers["authorization"] == "Bearer nas_abc"


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_URL", "http://elsewhere:1234")
    monkeypatch.setenv("NASATLAS_API_KEY", "nas_abc")
    get_settings.cache_clear()
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"items": []})

    assert NasAtlas(transport=httpx2.MockTransport(answer)).devices() == []
    assert str(seen[0].url) == "http://elsewhere:1234/devices"
    assert seen[0].headers["authorization"] == "Bearer nas_abc"


class TestFollowing:
    def test_a_broken_stream_is_taken_up_where_it_broke(self) -> None:
        asked: list[str | None] = []

        class Broken(httpx2.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield events(("1-queued-0", "state", in_state("queued")), ("2-queued-0", "milestone", MILESTONE))
                raise httpx2.ReadError("cut")

        def answer(request: httpx2.Request) -> httpx2.Response:
            asked.append(request.headers.get("last-event-id"))
            headers = {"content-type": "text/event-stream"}
            if len(asked) == 1:
                return httpx2.Response(200, headers=headers, stream=Broken())
            if len(asked) == 2:
                return httpx2.Response(503, json={"title": "Service unavailable"})
            if len(asked) == 3:  # the process ended in order
                return httpx2.Response(200, headers=headers, content=b": ping\n\n")
            done = events(("3-running-1", "progress", in_state("running")), ("4-failed-2", "state", in_state("failed")))
            return httpx2.Response(200, headers=headers, content=done)

        with answering(answer) as atlas:
            assert [search.state for search in atlas.follow(ID)] == ["queued", "running", "failed"]
        assert asked == [None, "2-queued-0", "2-queued-0", "2-queued-0"]

    def test_patience_ends(self) -> None:
        with always(503, {"title": "away"}) as atlas, pytest.raises(ServiceError):
            list(atlas.follow(ID, patience_s=0))

    def test_what_is_not_there_is_not_waited_for(self) -> None:
        with always(404, {"title": "No such search"}) as atlas:
            with pytest.raises(NotFoundError):
                list(atlas.follow(ID))
            with pytest.raises(NotFoundError):
                atlas.wait(ID)

    def test_events_have_milestones(self) -> None:
        headers = {"content-type": "text/event-stream"}
        content = events(("2-queued-0", "milestone", MILESTONE), ("2-failed-1", "state", in_state("failed")))
        with answering(lambda _: httpx2.Response(200, headers=headers, content=content)) as atlas:
            milestone, state = atlas.events(ID)
        assert (milestone.kind, milestone.id, getattr(milestone.data, "sequence", None)) == (
            "milestone",
            "2-queued-0",
            2,
        )
        assert (state.kind, state.data.state) == ("state", "failed")

    def test_nothing_more_to_come(self) -> None:
        with answering(lambda _: httpx2.Response(204)) as atlas:
            assert list(atlas.events(ID, "2-failed-1")) == []


MILESTONE = {
    "sequence": 2,
    "at": "2026-01-05T10:03:20Z",
    "kind": "step_done",
    "state": None,
    "step": "fit_gcn",
    "round_index": 0,
    "shard_index": 0,
}


def test_a_lookup_names_devices_and_their_limits_in_the_same_order() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=LOOKUP)

    with answering(answer) as atlas:
        atlas.lookup(max_madds=400, max_latency_ms={"pixel": 12, "server": 3}, search_id=ID, limit=3)
        atlas.lookup(devices=["pixel"])
    assert seen[0].url.params.multi_items() == [
        ("max_madds", "400"),
        ("device", "pixel"),
        ("device", "server"),
        ("max_latency_ms", "12"),
        ("max_latency_ms", "3"),
        ("search_id", str(ID)),
        ("scope", "table"),
        ("limit", "3"),
    ]
    assert seen[1].url.params.multi_items() == [("device", "pixel"), ("scope", "table"), ("limit", "10")]


def test_an_export_waits_for_the_job_that_makes_it(tmp_path: Path) -> None:
    paths: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        if request.url.path == f"/search/{ID}":
            return httpx2.Response(200, json=in_state("succeeded"))
        is_made = len(paths) > 2
        return httpx2.Response(200, content=b"onnx") if is_made else httpx2.Response(202, json=SEARCH)

    with answering(answer) as atlas:
        file = atlas.export(ID, "0123", tmp_path / "net.onnx")
    assert file.read_bytes() == b"onnx"
    assert [path.rpartition("/")[2] for path in paths] == ["export", str(ID), "export"]
    assert list(tmp_path.iterdir()) == [file]
