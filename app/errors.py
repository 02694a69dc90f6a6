"""What the service answers when it cannot do what was asked: RFC 9457 problems, each with its status and what to do.

Services and routes raise them; one handler turns them into ``application/problem+json``.
"""

from collections.abc import Mapping
from typing import ClassVar

from fastapi_rfc9457 import NotAuthenticated, Problem
from pydantic import BaseModel


class FieldError(BaseModel):
    """One thing that is wrong with a request.

    Attributes:
        loc: Where: ``body``, ``query``, ``path`` or ``header``, then the field and what is inside of it.
        msg: What is wrong and what would be right.
    """

    loc: list[str | int]
    msg: str


class InvalidRequestError(Problem):
    """The request is not valid; ``errors`` says where, what is wrong and what would be right."""

    title = "Invalid request"
    status = 422
    errors: list[FieldError]


class UnauthorizedError(NotAuthenticated):
    """The request needs a valid API key: ``Authorization: Bearer nas_...``."""

    title = "API key needed"
    status = 401
    challenge = 'Bearer realm="nasatlas"'


class ForbiddenError(Problem):
    """The key may not do this, or the request comes from another site's page."""

    title = "Not allowed"
    status = 403


class TooManyRequestsError(Problem):
    """A limit is reached; ``Retry-After`` says when to try again, ``detail`` what to do about it."""

    title = "Too many requests"
    status = 429
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds until it is worth trying again."}
    limit: str
    retry_after_s: int

    def response_headers(self) -> Mapping[str, str]:
        """Send ``retry_after_s`` as ``Retry-After``."""
        return {"Retry-After": str(self.retry_after_s)}

    @classmethod
    def header_examples(cls) -> Mapping[str, str]:
        """Document an example."""
        return {"Retry-After": "60"}


class SearchNotFoundError(Problem):
    """There is no search of that id; ``GET /search`` lists them."""

    title = "No such search"
    status = 404


class RoundNotFoundError(Problem):
    """The search has no such round (yet)."""

    title = "No such round"
    status = 404


class NoTableError(Problem):
    """There is no lookup table to answer from, because no search has succeeded yet."""

    title = "No lookup table"
    status = 404


class DeviceNotFoundError(Problem):
    """No latencies of that device are known."""

    title = "No such device"
    status = 404


class DataSetNotFoundError(Problem):
    """There is no data set of that name, or it is not yours."""

    title = "No such data set"
    status = 404


class DataSetExistsError(Problem):
    """There is a data set of that name already."""

    title = "Data set exists"
    status = 409


class DataSetInUseError(Problem):
    """Searches or jobs that are not over read the data set."""

    title = "Data set in use"
    status = 409
    search_ids: list[str]


class UnknownPathError(Problem):
    """Nothing is served under that path; ``GET /docs`` shows what is."""

    title = "Not found"
    status = 404


class IdempotencyConflictError(Problem):
    """The idempotency key was used before, with another body."""

    title = "Idempotency key used with another body"
    status = 409
    search_id: str


class SearchStateError(Problem):
    """The search is in a state in which this cannot be done."""

    title = "Not in this state"
    status = 409
    state: str


class NotRetrainedError(Problem):
    """No retraining of the architecture has finished, so there are no weights of one."""

    title = "Not retrained"
    status = 404


class ExportStoppedError(Problem):
    """The job that was to make the file has failed or was cancelled; resume it to try again."""

    title = "Export stopped"
    status = 409
    job_id: str
    state: str


class TableNotReadyError(Problem):
    """The search has not published the lookup table yet; ``rounds_with_tables`` names those that can be asked."""

    title = "Lookup table not ready"
    status = 409
    search_id: str
    state: str
    progress: float
    rounds_with_tables: list[int]


class ContentTooLargeError(Problem):
    """The request's body is larger than the service takes."""

    title = "Content too large"
    status = 413
    max_bytes: int


class InternalError(Problem):
    """The service failed; its log has the reason under the request id."""

    title = "Internal server error"
    status = 500
    request_id: str | None = None


class UnavailableError(Problem):
    """Something that the service needs is not there; ``missing`` names it."""

    title = "Service unavailable"
    status = 503
    missing: list[str]
