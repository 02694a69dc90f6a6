"""Requests and answers: addresses and keys that are none, nobody there, and files that come whole or not at all."""

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.client import BadAddressError, BadKeyError, NasAtlas, NotFoundError, UnreachableError
from app.client.transport import Transport
from tests.unit.app.client.answers import ID, Answer, answering


def transport(answer: Answer, api_key: str | None = None) -> Transport:
    return Transport("http://service/", api_key, transport=httpx2.MockTransport(answer))


def replying(status: int = 200, seen: list[httpx2.Request] | None = None, **options: Any) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        if seen is not None:
            seen.append(request)
        return httpx2.Response(status, **options)

    return answer


@pytest.mark.parametrize("url", ["no scheme", "ftp://x", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadAddressError):
        NasAtlas(url)


@pytest.mark.parametrize("key", ["", "nas_\u00e4", "nas_a\r\nX: y"])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    with pytest.raises(BadKeyError) as caught:
        NasAtlas("http://service", key)
    assert "nas_" not in str(caught.value)


def test_nobody_there_and_somebody_else_there() -> None:
    with NasAtlas("http://127.0.0.1:1") as atlas, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        atlas.devices()
    elsewhere = answering(lambda _: httpx2.Response(200, text="<html>"))
    with elsewhere as atlas, pytest.raises(UnreachableError, match="JSON"):
        atlas.devices()


def test_a_download_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    class Broken(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx2.ReadError("cut")

    with answering(lambda _: httpx2.Response(200, stream=Broken())) as atlas, pytest.raises(UnreachableError):
        atlas.export(ID, "0123", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_none_are_left_out() -> None:
    seen: list[httpx2.Request] = []
    transport(replying(seen=seen, json={})).get("/search", size=3, cursor=None, kind=["search", "export"])
    assert str(seen[0].url) == "http://service/search?size=3&kind=search&kind=export"


def test_a_key_is_sent_without_the_line_end_of_its_file() -> None:
    seen: list[httpx2.Request] = []
    transport(replying(seen=seen, json={}), "nas_abc\n").get("/search")
    assert seen[0].headers["authorization"] == "Bearer nas_abc"


def test_without_a_key_none_is_sent() -> None:
    seen: list[httpx2.Request] = []
    transport(replying(seen=seen, json={})).get("/search")
    assert "authorization" not in seen[0].headers


def test_an_upload_is_sent_as_it_is() -> None:
    seen: list[httpx2.Request] = []
    assert transport(replying(seen=seen, json={"name": "mine"})).upload("/datasets/mine", io.BytesIO(b"PK")) == {
        "name": "mine"
    }
    assert (seen[0].method, seen[0].content) == ("PUT", b"PK")


def test_nothing_to_say_is_no_missing_json() -> None:
    transport(replying(204)).delete("/devices/pixel")


@pytest.mark.parametrize("body", [b"<html>502 Bad Gateway</html>", b"", b"{"])
def test_an_answer_of_somebody_else(body: bytes) -> None:
    for status in (200, 502):
        with pytest.raises(UnreachableError, match=f"no answer from http://service: status {status}, and not in JSON"):
            transport(replying(status, content=body)).get("/search")


def test_a_problem_that_is_no_object_is_still_one() -> None:
    with pytest.raises(NotFoundError, match="status 404"):
        transport(replying(404, json=["gone"])).get("/search")


def test_a_file_replaces_the_one_that_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        transport(replying(404, json={})).download("/x", target)
    assert target.read_bytes() == b"old"
    assert transport(replying(content=b"new")).download("/x", target) is None
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_still_being_made_is_a_job(tmp_path: Path) -> None:
    job = transport(replying(202, json={"id": "7"})).download("/x", tmp_path / "net.onnx", format="onnx")
    assert job == {"id": "7"}
    assert list(tmp_path.iterdir()) == []


def test_events_begin_after_the_last_one_that_was_seen() -> None:
    seen: list[httpx2.Request] = []
    content = b"event: state\ndata: " + json.dumps({"state": "running"}).encode() + b"\nid: 3-running-1\n\n"
    headers = {"content-type": "text/event-stream"}
    (event,) = transport(replying(seen=seen, content=content, headers=headers)).events("/e", "2-queued-0")
    assert (event.event, event.id, event.json()) == ("state", "3-running-1", {"state": "running"})
    assert seen[0].headers["last-event-id"] == "2-queued-0"
    assert list(transport(replying(204)).events("/e")) == []


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be asked for a service on this machine, and would be told the key."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(UnreachableError):
            Transport("http://127.0.0.1:1").get("/search")
        with pytest.raises(TimeoutError):
            proxy.accept()
