"""The API as the command line sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from app.cli.client import ApiClient, UnreachableError
from app.cli.errors import CommandError


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> ApiClient:
    return ApiClient("http://service/", transport=httpx2.MockTransport(answer))


def test_answers_are_json_and_empty_parameters_are_left_out() -> None:
    with answering(lambda request: httpx2.Response(200, json={"url": str(request.url)})) as api:
        assert api.get("/lookup", max_madds=400, limit=None) == {"url": "http://service/lookup?max_madds=400"}


def test_a_body_is_sent_as_json() -> None:
    with answering(lambda request: httpx2.Response(202, json=[request.method, request.content.decode()])) as api:
        assert api.post("/search", {"a": 1}) == ["POST", '{"a":1}']
        # what is no JSON is the service's to refuse
        assert api.post("/search", {"a": float("nan")}) == ["POST", '{"a":NaN}']


@pytest.mark.parametrize(
    ("status", "body", "exit_code", "message", "details"),
    [
        (
            422,
            {"title": "Invalid request", "errors": [{"loc": ["body", "seed"], "msg": "m"}]},
            2,
            "Invalid request",
            ("seed: m",),
        ),
        (
            422,
            {"title": "Invalid request", "errors": [{"loc": ["body"], "msg": "m"}]},
            2,
            "Invalid request",
            ("request: m",),
        ),
        (404, {"title": "No such search", "detail": "d"}, 2, "No such search: d", ()),
        (500, {"title": "Internal server error", "detail": "d"}, 1, "Internal server error: d", ()),
        (503, {"title": "Service unavailable", "detail": "d"}, 3, "Service unavailable: d", ()),
        (502, [], 3, "status 502", ()),
    ],
)
def test_problems_become_command_errors(
    status: int, body: Any, exit_code: int, message: str, details: tuple[str, ...]
) -> None:
    with answering(lambda _: httpx2.Response(status, json=body)) as api, pytest.raises(CommandError) as caught:
        api.get("/search")
    assert (caught.value.exit_code, caught.value.message, caught.value.details) == (exit_code, message, details)


def test_the_key_is_sent_and_a_missing_one_is_named() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        known = request.headers.get("authorization") == "Bearer nas_abc"
        return httpx2.Response(200 if known else 401, json={"title": "API key needed", "detail": "d"})

    transport = httpx2.MockTransport(answer)
    for key in ("nas_abc", " nas_abc\n"):
        with ApiClient("http://service", SecretStr(key), transport=transport) as api:
            api.get("/search")
    with ApiClient("http://service", transport=transport) as api, pytest.raises(CommandError) as caught:
        api.get("/search")
    assert (caught.value.exit_code, caught.value.message) == (2, "API key needed")
    assert "NASATLAS_API_KEY" in caught.value.details[0]


@pytest.mark.parametrize("key", ["nas_\u00e4", "nas_a\r\nX: y"])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    with pytest.raises(CommandError, match="NASATLAS_API_KEY is no key") as caught:
        ApiClient("http://service", SecretStr(key))
    assert "nas_" not in str(caught.value)


def test_nobody_there() -> None:
    with ApiClient("http://127.0.0.1:1") as api, pytest.raises(UnreachableError, match="Is the service up") as caught:
        api.get("/healthz")
    assert caught.value.exit_code == 3


def test_somebody_else_there() -> None:
    with answering(lambda _: httpx2.Response(200, text="<html>")) as api, pytest.raises(UnreachableError, match="JSON"):
        api.get("/healthz")


@pytest.mark.parametrize("url", ["", "no scheme", "ftp://x", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(CommandError), ApiClient(url) as api:
        api.get("/healthz")


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "images.zip"
    file.write_bytes(b"PK" * 100_000)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(201, json=[request.method, len(request.read()), request.headers["content-length"]])

    with answering(answer) as api:
        assert api.upload("/datasets/a", file) == ["PUT", 200_000, "200000"]
        with pytest.raises(CommandError, match="cannot be read") as caught:
            api.upload("/datasets/a", tmp_path / "nothing.zip")
    assert caught.value.exit_code == 2
