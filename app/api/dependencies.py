"""What routes ask for: the database, the settings, and the errors that every route can answer with."""

import contextlib
import difflib
import uuid
from collections import Counter
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from fastapi_rfc9457 import Problem
from fastapi_rfc9457.server import problems
from sqlalchemy import Engine

from app.errors import (
    FieldError,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from app.settings import Settings


# async, though they wait for nothing: FastAPI sends plain functions to a thread, which costs more than a lookup's query
async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def look_at_what_is_asked(request: Request) -> None:
    """Log what every request names, and refuse what no route has; one dependency, because each takes its time.

    Raises:
        InvalidRequestError: If there is a query parameter that the route does not have, or one twice.
    """
    _log_what_is_asked(request)
    _check_parameters_are_known(request)


def _check_parameters_are_known(request: Request) -> None:
    """Refuse query parameters that the route does not have, or that are given twice: a misspelt limit is no limit.

    Raises:
        InvalidRequestError: With the names that the route has.
    """
    route = request.scope["route"]
    operation = request.app.openapi()["paths"][route.path_format][request.method.lower()]
    parameters = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
    known = [p["name"] for p in parameters]
    lists = {p["name"] for p in parameters if p["schema"].get("type") == "array"}
    found = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none here'}"
            found.append(FieldError(loc=["query", name], msg=f"there is no parameter {name}; {hint}"))
        elif times > 1 and name not in lists:
            found.append(FieldError(loc=["query", name], msg=f"{name} is given {times} times; give it once"))
    if found:
        raise InvalidRequestError(detail=found[0].msg, errors=found)


def _log_what_is_asked(request: Request) -> None:
    """Put the search and the round that a request names into every line that is logged for it.

    Only those that are what they should be: whatever else stands there is refused, and no log line repeats it.
    """
    named = {**request.query_params, **request.path_params}
    with contextlib.suppress(ValueError):
        structlog.contextvars.bind_contextvars(search_id=str(uuid.UUID(named.get("search_id", ""))))
    with contextlib.suppress(ValueError):
        structlog.contextvars.bind_contextvars(round_index=int(named.get("round_index", "")))


AppSettings = Annotated[Settings, Depends(_settings)]
Database = Annotated[Engine, Depends(_engine)]


def errors(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that can answer with these problems, besides those of every route."""
    return open_errors(*kinds, UnauthorizedError, ForbiddenError, TooManyRequestsError)


def open_errors(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that anybody may ask, whoever they are."""
    return problems(*kinds, InvalidRequestError, InternalError, UnavailableError)
