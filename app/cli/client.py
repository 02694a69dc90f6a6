"""The API as the command line sees it: JSON in, JSON out, and problems as command errors."""

import contextlib
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import SecretStr

from app.cli.errors import FAILED, UNREACHABLE, USAGE, CommandError

TIMEOUT_S = 60.0


class UnreachableError(CommandError):
    """Nobody answers at the service's address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            UNREACHABLE,
            f"no answer from {url}: {reason.rstrip('.')}. Is the service up? Give its address with --url or "
            "NASATLAS_URL, or leave both out to start one here.",
        )


class ApiClient:
    """A connection to the service.

    Args:
        url: Its address.
        api_key: The key to send with every request, if the service needs one.
        transport: For tests: what carries the requests.
    """

    def __init__(
        self, url: str, api_key: SecretStr | None = None, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        try:
            address = httpx2.URL(self.url)
        except httpx2.InvalidURL:
            address = httpx2.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise CommandError(USAGE, f"{url!r} is no address; give something like http://127.0.0.1:8000")
        # the environment's proxies are for the outside world, not for a service on this machine
        self._client = httpx2.Client(
            base_url=address, headers=_headers(api_key), timeout=TIMEOUT_S, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET; parameters that are None are left out."""
        return self._request("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """Return the answer to a POST."""
        return self._request("POST", path, json=body)

    def put(self, path: str, body: Any) -> Any:
        """Return the answer to a PUT."""
        return self._request("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """Delete something."""
        self._request("DELETE", path)

    def download(self, path: str, target: Path, **query: Any) -> dict[str, Any] | None:
        """Write the answer to a GET into a file, whole or not at all.

        Returns:
            None if it is written; where it is still being made (202): the job that makes it.

        Raises:
            CommandError: If the service says no, or the file cannot be written.
        """
        params = {key: value for key, value in query.items() if value is not None}
        partial = target.with_name(f".{target.name}.part")
        try:
            with self._client.stream("GET", path, params=params) as response:
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    job: dict[str, Any] = self._answer(response)
                    return job
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(target)
        except httpx2.TransportError as error:
            raise UnreachableError(self.url, str(error) or type(error).__name__) from error
        except OSError as error:
            raise CommandError(FAILED, f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return None

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
        raise _problem(response.status_code, answer if isinstance(answer, dict) else {})


def _headers(api_key: SecretStr | None) -> dict[str, str]:
    if api_key is None:
        return {}
    key = api_key.get_secret_value().strip()
    if not key.isascii() or not key.isprintable():
        raise CommandError(USAGE, "NASATLAS_API_KEY is no key: it has other characters than a key's")
    return {"Authorization": f"Bearer {key}"}


def _problem(status: int, problem: dict[str, Any]) -> CommandError:
    """The service's problem as a command error: its title, and each thing that is wrong with its place."""
    unreachable_or_failed = UNREACHABLE if status in (502, 503, 504) else FAILED
    exit_code = USAGE if status < 500 else unreachable_or_failed
    errors = problem.get("errors") or []
    details = tuple(f"{'.'.join(map(str, error['loc'][1:])) or 'request'}: {error['msg']}" for error in errors)
    if status == HTTPStatus.UNAUTHORIZED:
        details = ("set NASATLAS_API_KEY to a valid key; who runs the service makes one with: nasatlas keys create",)
    title, detail = problem.get("title", f"status {status}"), problem.get("detail")
    return CommandError(exit_code, title if details or not detail else f"{title}: {detail}", details)
