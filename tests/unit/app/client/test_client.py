"""The Python client against answers made up here: what it sends, what it returns, and what it raises."""

import builtins
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import app.client.calls
import app.client.searches
from app.client import (
    BadAddressError,
    BadKeyError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    MissingPandasError,
    NasAtlas,
    NasAtlasError,
    NotFoundError,
    ProblemError,
    SearchEndedError,
    ServiceError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from app.schemas.examples import LOOKUP, PAIR, PARETO, SEARCH
from app.schemas.search import SearchView
from app.settings import get_settings

Answer = Callable[[httpx2.Request], httpx2.Response]
ID = uuid.UUID(SEARCH["id"])


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(app.client.calls.time, "sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    for name in ("NASATLAS_URL", "NASATLAS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


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


@pytest.mark.parametrize("url", ["no scheme", "ftp://x", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadAddressError):
        NasAtlas(url)


@pytest.mark.parametrize("key", ["", "nas_\u00e4", "nas_a\r\nX: y"])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    with pytest.raises(BadKeyError) as caught:
        NasAtlas("http://service", key)
    assert "nas_" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, ProblemError),
        (422, InvalidRequestError),
        (429, TooManyRequestsError),
        (500, ServiceError),
        (503, ServiceError),
    ],
)
def test_problems_are_exceptions_that_carry_them(status: int, kind: type[ProblemError]) -> None:
    problem = {"title": "T", "detail": "d", "errors": [{"loc": ["body", "seed"], "msg": "m"}], "retry_after_s": 60}
    with always(status, problem) as atlas, pytest.raises(NasAtlasError) as caught:
        atlas.search(ID)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.problem, error.title, error.detail) == (status, problem, "T", "d")
    assert (str(error), error.errors[0]["msg"], error.retry_after_s) == ("T: d", "m", 60)


def test_nobody_there_and_somebody_else_there() -> None:
    with NasAtlas("http://127.0.0.1:1") as atlas, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        atlas.devices()
    elsewhere = answering(lambda _: httpx2.Response(200, text="<html>"))
    with elsewhere as atlas, pytest.raises(UnreachableError, match="JSON"):
        atlas.devices()


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


class TestWaiting:
    def test_until_it_has_succeeded(self) -> None:
        answers = iter([in_state("queued"), None, in_state("running"), in_state("succeeded")])

        def answer(_: httpx2.Request) -> httpx2.Response:
            body = next(answers)
            return httpx2.Response(200, json=body) if body else httpx2.Response(503, json={"title": "away"})

        with answering(answer) as atlas:
            assert atlas.wait(ID).state == "succeeded"

    @pytest.mark.parametrize(("state", "says"), [("failed", "has failed: broken"), ("cancelled", "was cancelled")])
    def test_other_ends_are_errors(self, state: str, says: str) -> None:
        with (
            always(200, in_state(state, error="broken")) as atlas,
            pytest.raises(SearchEndedError, match=says) as caught,
        ):
            atlas.wait(ID)
        assert caught.value.search.state == state

    def test_only_so_long(self) -> None:
        with always(200, in_state("running")) as atlas, pytest.raises(TimeoutError, match="it goes on"):
            atlas.wait(ID, timeout_s=0)


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


class TestFrames:
    def test_of_a_lookup(self) -> None:
        with always(200, LOOKUP) as atlas:
            found = atlas.lookup()
        frame = found.to_dataframe()
        assert list(frame["code"]) == [item.code for item in found.items]
        assert frame["latency_ms_pixel"][0] == found.items[0].latency_ms["pixel"]
        assert "latency_ms" not in frame
        assert frame["interval_lower"][0] < frame["predicted_accuracy"][0] < frame["interval_upper"][0]

    def test_of_an_empty_lookup(self) -> None:
        with always(200, {**LOOKUP, "items": [], "message": "none"}) as atlas:
            assert list(atlas.lookup().to_dataframe().columns)[:2] == ["rank", "code"]

    def test_of_a_front(self) -> None:
        with always(200, PARETO) as atlas:
            assert len(atlas.pareto().to_dataframe()) == len(PARETO["items"])

    def test_of_pairs_of_several_pages(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            is_last = request.url.params.get("cursor") == "next"
            page = {"items": [PAIR] * (1 if is_last else 100), "next_page": None if is_last else "next"}
            return httpx2.Response(200, json=page)

        with answering(answer) as atlas:
            pairs = atlas.pairs(ID)
        assert (len(pairs), len(pairs[:3]), pairs[0].code) == (101, 3, PAIR["code"])
        frame = pairs.to_dataframe()
        assert list(frame.columns) == ["round_index", "source", "code", "readable", "accuracy", "held_out"]
        assert len(frame) == 101

    def test_without_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_import = builtins.__import__

        def no_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "pandas":
                raise ImportError(name)
            return real_import(name, *args, **kwargs)

        with always(200, LOOKUP) as atlas:
            found = atlas.lookup()
        monkeypatch.setattr(builtins, "__import__", no_pandas)
        with pytest.raises(MissingPandasError, match=r"nasatlas\[notebook\]"):
            found.to_dataframe()


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


def test_a_download_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    class Broken(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx2.ReadError("cut")

    with answering(lambda _: httpx2.Response(200, stream=Broken())) as atlas, pytest.raises(UnreachableError):
        atlas.export(ID, "0123", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
