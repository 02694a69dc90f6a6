"""The typed Python client: ``from app.client import NasAtlas``. It needs nothing of the service's own machinery."""

from app.client.client import NasAtlas
from app.client.errors import (
    BadAddressError,
    BadKeyError,
    BadNameError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    MissingPandasError,
    NasAtlasError,
    NotFoundError,
    ProblemError,
    SearchEndedError,
    ServiceError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from app.client.results import Lookup, Pairs, Pareto, Table
from app.client.searches import SearchEvent
from app.client.webhooks import InvalidSignatureError, WebhookNews, verify_signature

__all__ = [
    "BadAddressError",
    "BadKeyError",
    "BadNameError",
    "ConflictError",
    "ForbiddenError",
    "InvalidRequestError",
    "InvalidSignatureError",
    "Lookup",
    "MissingPandasError",
    "NasAtlas",
    "NasAtlasError",
    "NotFoundError",
    "Pairs",
    "Pareto",
    "ProblemError",
    "SearchEndedError",
    "SearchEvent",
    "ServiceError",
    "Table",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnreachableError",
    "WebhookNews",
    "verify_signature",
]
