"""Bodies that are too large are refused, by what they announce or by what comes, and no more of them is taken."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.body_limit import MAX_BODY_BYTES, BodyLimitMiddleware, BodyTooLargeError

LIMIT = MAX_BODY_BYTES
UPLOAD_LIMIT = 4 * MAX_BODY_BYTES
CHUNK = 2**16


def taken(method: str, path: str, num_bytes: int, announced: str | None = None) -> tuple[int, int]:
    """Bytes that the application got, and that were asked for; of a body that comes piece by piece."""
    got, asked = 0, 0
    sizes: Iterator[int] = iter([CHUNK] * (num_bytes // CHUNK) + [num_bytes % CHUNK])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        while (message := await receive())["more_body"]:
            got += len(message["body"])

    async def receive() -> Message:
        nonlocal asked
        size = next(sizes, None)
        asked += size or 0
        return {"type": "http.request", "body": bytes(size or 0), "more_body": size is not None}

    async def send(message: Message) -> None:
        raise AssertionError("the application answers, not the limit")

    headers = [] if announced is None else [(b"content-length", announced.encode())]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": headers}
    limited = BodyLimitMiddleware(application, max_upload_bytes=UPLOAD_LIMIT)
    try:
        asyncio.run(limited(scope, receive, send))
    except BodyTooLargeError as error:
        error.add_note(str(asked))
        raise
    return got, asked


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/search", LIMIT),
        ("PUT", "/devices/pixel", LIMIT),
        ("PUT", "/datasets/flowers", UPLOAD_LIMIT),
        ("PUT", "/datasets/flowers/", UPLOAD_LIMIT),
        ("POST", "/datasets/flowers", LIMIT),
        ("PUT", "/datasets/flowers/other", LIMIT),
        ("PUT", "/datasets/", LIMIT),
    ],
)
def test_only_the_route_that_takes_data_sets_takes_more(method: str, path: str, limit: int) -> None:
    assert taken(method, path, limit) == (limit, limit)
    with pytest.raises(BodyTooLargeError) as caught:
        taken(method, path, limit + 1)
    assert (caught.value.status_code, caught.value.max_bytes) == (413, limit)


def test_no_more_is_taken_than_it_takes_to_know() -> None:
    with pytest.raises(BodyTooLargeError) as caught:
        taken("POST", "/search", 100 * LIMIT)
    assert int(caught.value.__notes__[0]) <= LIMIT + CHUNK


def test_what_announces_too_much_is_not_begun() -> None:
    with pytest.raises(BodyTooLargeError) as caught:
        taken("POST", "/search", 10, announced=str(LIMIT + 1))
    assert caught.value.__notes__ == ["0"]


@pytest.mark.parametrize("announced", ["10", "-1", "many", ""])
def test_an_announcement_is_not_believed(announced: str) -> None:
    assert taken("POST", "/search", 1000, announced) == (1000, 1000)
    with pytest.raises(BodyTooLargeError):
        taken("POST", "/search", LIMIT + 1, announced)
