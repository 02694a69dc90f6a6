"""What can go wrong when one talks to the service."""

from http import HTTPStatus
from typing import Any

from app.schemas.search import SearchView


class NasAtlasError(Exception):
    """Base of all errors of the client."""


class BadAddressError(NasAtlasError, ValueError):
    """The service's address is none."""


class BadKeyError(NasAtlasError, ValueError):
    """The API key cannot be one. It is not repeated in the message."""


class BadNameError(NasAtlasError, ValueError):
    """A name, an id or a code that the API does not take; the message says what it may be."""


class MissingPandasError(NasAtlasError, ImportError):
    """Data frames need pandas."""


class UnreachableError(NasAtlasError):
    """Nobody answers at the service's address, or somebody else does.

    Attributes:
        url: The address.
        reason: What happened instead.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.reason = reason


class ProblemError(NasAtlasError):
    """The service says no.

    Attributes:
        status: The answer's HTTP status.
        problem: The answer: an RFC 9457 problem.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)

    @property
    def title(self) -> str:
        """What kind of problem it is."""
        return str(self.problem.get("title", f"status {self.status}"))

    @property
    def detail(self) -> str | None:
        """What is wrong, and what would be right."""
        return self.problem.get("detail")

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Each thing that is wrong with a request: ``loc``, the place, and ``msg``."""
        return list(self.problem.get("errors") or [])

    @property
    def retry_after_s(self) -> int | None:
        """Of a limit that is reached: when it is worth trying again."""
        return self.problem.get("retry_after_s")


class UnauthorizedError(ProblemError):
    """A valid API key is needed (401)."""


class ForbiddenError(ProblemError):
    """The key may not do this (403)."""


class NotFoundError(ProblemError):
    """There is no such thing, or not for this key's owner (404)."""


class ConflictError(ProblemError):
    """It cannot be done in the present state (409)."""


class InvalidRequestError(ProblemError):
    """The request is not valid; ``errors`` has every reason with its place (422)."""


class TooManyRequestsError(ProblemError):
    """A limit is reached (429)."""


class ServiceError(ProblemError):
    """The service failed, or lacks something that it needs (5xx)."""


_KINDS: dict[int, type[ProblemError]] = {
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequestError,
    HTTPStatus.TOO_MANY_REQUESTS: TooManyRequestsError,
}


def problem_error(status: int, problem: dict[str, Any]) -> ProblemError:
    """Return the error of an answer."""
    kind = _KINDS.get(status, ServiceError if status >= 500 else ProblemError)
    return kind(status, problem)


class SearchEndedError(NasAtlasError):
    """A search that was waited for has failed or was cancelled.

    Attributes:
        search: The search.
    """

    def __init__(self, search: SearchView) -> None:
        how = f"has failed: {search.error}" if search.state == "failed" else f"was {search.state}"
        super().__init__(f"{search.kind} {search.id} {how}")
        self.search = search
