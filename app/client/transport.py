"""Requests and answers: JSON in, JSON out, files and event streams, and problems as exceptions."""

import contextlib
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx2

from app.client.errors import BadAddressError, BadKeyError, UnreachableError, problem_error

TIMEOUT_S = 60.0
"""For a connection, and between two parts of an answer; event streams say something every 15 s."""

UPLOAD_TIMEOUT_S = 1800.0


class Transport:
    """A connection to the service.

    Args:
        url: Its address.
        api_key: The key to send with every request, if the service needs one.
        transport: For tests: what carries the requests.

    Raises:
        BadAddressError: If the address is none.
        BadKeyError: If the key cannot be one.
    """

    def __init__(self, url: str, api_key: str | None = None, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            address = httpx2.URL(self.url)
        except httpx2.InvalidURL:
            address = httpx2.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise BadAddressError(f"{url!r} is no address; give something like http://127.0.0.1:8000")
        # the environment's proxies are for the outside world, not for a service on this machine
        self._client = httpx2.Client(
            base_url=address, headers=_headers(api_key), timeout=TIMEOUT_S, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET; parameters that are None are left out."""
        return self._request("GET", path, params=_given(query))

    def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """Return the answer to a POST."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._request("POST", path, **_json(body, headers))

    def put(self, path: str, body: Any) -> Any:
        """Return the answer to a PUT."""
        return self._request("PUT", path, **_json(body, {}))

    def upload(self, path: str, content: BinaryIO) -> Any:
        """Return the answer to a PUT of a file, which is sent piece by piece."""
        # the service unpacks and checks before it answers
        return self._request("PUT", path, content=content, timeout=UPLOAD_TIMEOUT_S)

    def delete(self, path: str) -> None:
        """Delete something."""
        self._request("DELETE", path)

    def read(self, path: str, **query: Any) -> bytes:
        """Return the answer to a GET that is no JSON."""
        with self._stream(path, query) as response:
            return response.read()

    def download(self, path: str, target: Path, **query: Any) -> dict[str, Any] | None:
        """Write the answer to a GET into a file, whole or not at all.

        Returns:
            None if it is written; where it is still being made (202): the job that makes it.

        Raises:
            NasAtlasError: If the service says no.
            OSError: If the file cannot be written.
        """
        partial = target.with_name(f".{target.name}.part")
        try:
            with self._stream(path, query) as response:
                if response.status_code != HTTPStatus.OK:
                    response.read()
                    job: dict[str, Any] = self._answer(response)
                    return job
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(target)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return None

    def events(self, path: str, last_event_id: str | None = None) -> Iterator[httpx2.ServerSentEvent]:
        """Yield server-sent events until the stream ends; none where the service says that there are no more."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        with self._stream(path, {}, headers) as response:
            if response.status_code != HTTPStatus.NO_CONTENT:
                yield from httpx2.EventSource(response)

    @contextlib.contextmanager
    def _stream(
        self, path: str, query: dict[str, Any], headers: dict[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """An answer that is read part by part, or an error."""
        try:
            with self._client.stream("GET", path, params=_given(query), headers=headers) as response:
                if not response.is_success:
                    response.read()
                    self._answer(response)
                yield response
        except httpx2.TransportError as error:
            raise UnreachableError(self.url, str(error) or type(error).__name__) from error

    def _request(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise UnreachableError(self.url, str(error) or type(error).__name__) from error
        return self._answer(response)

    def _answer(self, response: httpx2.Response) -> Any:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        try:
            answer = response.json()
        except ValueError as error:
            raise UnreachableError(self.url, f"status {response.status_code}, and not in JSON") from error
        if response.is_success:
            return answer
        raise problem_error(response.status_code, answer if isinstance(answer, dict) else {})


def _json(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """A body with its headers; what is no JSON, such as NaN, is left to the service, which says where it stands."""
    if body is None:
        return {"headers": headers}
    return {
        "content": json.dumps(body, separators=(",", ":")).encode(),
        "headers": {**headers, "Content-Type": "application/json"},
    }


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _headers(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise BadKeyError("the API key is no key: it has other characters than a key's")
    return {"Authorization": f"Bearer {key}"}
