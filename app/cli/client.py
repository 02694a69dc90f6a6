"""The API as the command line sees it: the Python client's transport, with what goes wrong as command errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import SecretStr

from app.cli.errors import FAILED, UNREACHABLE, USAGE, BusyError, CommandError
from app.client import errors
from app.client.calls import read_pages
from app.client.transport import Transport


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

    Raises:
        CommandError: If the address is none, or the key cannot be one.
    """

    def __init__(
        self, url: str, api_key: SecretStr | None = None, transport: httpx2.BaseTransport | None = None
    ) -> None:
        with _as_command_errors():
            key = None if api_key is None else api_key.get_secret_value()
            self._api = Transport(url, key, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._api.close()

    @property
    def url(self) -> str:
        """Its address."""
        return self._api.url

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET; parameters that are None are left out."""
        with _as_command_errors():
            return self._api.get(path, **query)

    def pages(self, path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Return the items of a paged list: ``limit`` of them, or all where it is 0."""
        with _as_command_errors():
            return read_pages(self._api, path, limit, **query)

    def post(self, path: str, body: Any = None) -> Any:
        """Return the answer to a POST."""
        with _as_command_errors():
            return self._api.post(path, body)

    def put(self, path: str, body: Any) -> Any:
        """Return the answer to a PUT."""
        with _as_command_errors():
            return self._api.put(path, body)

    def upload(self, path: str, file: Path) -> Any:
        """Return the answer to a PUT of a file, which is sent piece by piece.

        Raises:
            CommandError: If the service says no, or the file cannot be read.
        """
        try:
            with file.open("rb") as content, _as_command_errors():
                return self._api.upload(path, content)
        except OSError as error:
            raise CommandError(USAGE, f"{file} cannot be read: {error.strerror or error}") from error

    def delete(self, path: str) -> None:
        """Delete something."""
        with _as_command_errors():
            self._api.delete(path)

    def download(self, path: str, target: Path, **query: Any) -> dict[str, Any] | None:
        """Write the answer to a GET into a file, whole or not at all.

        Returns:
            None if it is written; where it is still being made (202): the job that makes it.

        Raises:
            CommandError: If the service says no, or the file cannot be written.
        """
        try:
            with _as_command_errors():
                return self._api.download(path, target, **query)
        except OSError as error:
            raise CommandError(FAILED, f"{target} cannot be written: {error.strerror or error}") from error


@contextmanager
def _as_command_errors() -> Iterator[None]:
    """Raise what the client raises as the end of a command."""
    try:
        yield
    except errors.UnreachableError as error:
        raise UnreachableError(error.url, error.reason) from error
    except errors.ProblemError as error:
        raise _problem(error) from error
    except errors.BadKeyError as error:
        raise CommandError(USAGE, "NASATLAS_API_KEY is no key: it has other characters than a key's") from error
    except errors.BadAddressError as error:
        raise CommandError(USAGE, str(error)) from error


def _problem(error: errors.ProblemError) -> CommandError:
    """The service's problem as a command error: its title, and each thing that is wrong with its place."""
    if isinstance(error, errors.TooManyRequestsError) and error.retry_after_s is not None:
        return BusyError(str(error), error.retry_after_s)
    unreachable_or_failed = UNREACHABLE if error.status in (502, 503, 504) else FAILED
    exit_code = USAGE if error.status < 500 else unreachable_or_failed
    details = tuple(f"{'.'.join(map(str, e['loc'][1:])) or 'request'}: {e['msg']}" for e in error.errors)
    if error.status == HTTPStatus.UNAUTHORIZED:
        details = ("set NASATLAS_API_KEY to a valid key; who runs the service makes one with: nasatlas keys create",)
    return CommandError(exit_code, error.title if details else str(error), details)
