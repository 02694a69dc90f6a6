"""Every error leaves as ``application/problem+json``.

fastapi-rfc9457 answers our own problems and documents them. For requests that do not validate, unknown paths and
crashes it would say only "Request validation failed (1 error)", "Not Found" and nothing, so those are turned into
problems of ours that say what to do.
"""

import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi_rfc9457 import MethodNotAllowed, Problem
from fastapi_rfc9457.server import add_problem_handlers
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import Response
from starlette.routing import compile_path

from app.api.body_limit import MAX_BODY_BYTES, BodyTooLargeError
from app.errors import ContentTooLargeError, InternalError, InvalidRequestError, UnavailableError, UnknownPathError
from app.schemas.device import DeviceRequest, MeasurementRequest
from app.schemas.retraining import RetrainingRequest
from app.schemas.search_request import SearchRequest
from app.services.field_errors import from_details

log = structlog.get_logger(__name__)


def install_problem_handlers(app: FastAPI) -> None:
    """Register the handlers of all errors on an application, but of crashes: see :func:`answer_crashes`."""
    add_problem_handlers(app, strip_debug=True)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    del app.exception_handlers[Exception]
    for error in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(error, _database_away)


def answer_crashes(app: FastAPI) -> None:
    """Turn what nothing else has caught into a problem; inside of the middleware that is added after this.

    A handler of ``Exception`` that is registered on the application answers outside of all middleware, so its answers
    would have neither our security headers nor the request id.
    """
    app.add_middleware(ServerErrorMiddleware, handler=_crash)


async def _respond(request: Request, problem: Problem) -> Response:
    handler = request.app.exception_handlers[Problem]
    response: Response = await handler(request, problem)
    return response


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = from_details(error.errors(), model=_model_of(request.url.path))
    return await _respond(
        request,
        InvalidRequestError(detail="; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for e in found[:5]), errors=found),
    )


def _model_of(path: str) -> type[BaseModel]:
    """What the body of a request should have been, to name its fields where one is misspelt."""
    if path.startswith("/devices/"):
        return MeasurementRequest if path.endswith("/measurement") else DeviceRequest
    return RetrainingRequest if path.endswith("/retraining") else SearchRequest


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            problem: Problem = UnknownPathError(detail=f"nothing is served at {path}; GET /docs shows what is")
        case 405:
            allowed = _allowed_methods(request)
            problem = MethodNotAllowed(
                detail=f"{path} does not answer {request.method}; use {' or '.join(allowed)}", allow=allowed
            )
        case 413:
            max_bytes = error.max_bytes if isinstance(error, BodyTooLargeError) else MAX_BODY_BYTES
            problem = ContentTooLargeError(
                detail=f"the body of this request may have up to {max_bytes:,} bytes", max_bytes=max_bytes
            )
        case 400:
            # FastAPI's answer to a body that cannot be decoded at all
            problem = InvalidRequestError(
                detail="the body cannot be read; send one JSON object in UTF-8",
                errors=from_details([{"loc": ("body",), "type": "json_invalid", "msg": str(error.detail)}]),
            )
        case _:
            raise error
    return await _respond(request, problem)


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes of a path; Starlette names only those of the first."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path_format is not None and compile_path(route.path_format)[0].match(request.url.path):
            methods |= route.methods or set()
    return sorted(methods)


async def _crash(request: Request, error: Exception) -> Response:
    # the traceback follows: the server logs what is raised on
    log.error("request failed", path=request.url.path, error=type(error).__name__)
    request_id = correlation_id.get()
    return await _respond(
        request,
        InternalError(
            detail=f"the service failed; its log has the reason under request id {request_id}", request_id=request_id
        ),
    )


async def _database_away(request: Request, error: Exception) -> Response:
    log.error("database not reachable", path=request.url.path, error=str(error))
    return await _respond(
        request,
        UnavailableError(
            detail="the database cannot be reached; try again in a moment, GET /readyz says when it is back",
            missing=["database"],
        ),
    )
