"""Templates, and routes that answer with pages: also their errors are pages."""

import datetime as dt
import hashlib
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_rfc9457 import Problem
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import HTMLResponse, Response

from app.api.authentication import needs_key
from app.dashboard.number_formats import FORMATS
from app.errors import InvalidRequestError, UnauthorizedError, UnavailableError, UnknownPathError
from app.services.callers import Caller
from app.services.field_errors import from_details

STATIC = Path(__file__).parent / "static"
STATIC_PREFIX = "/ui/static"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline and nothing from elsewhere: whatever somebody names a search, no script of theirs runs."""


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """Return the address of a static file, with its digest: browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{STATIC_PREFIX}/{name}?v={digest}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FORMATS)
    environment.globals.update(static=static_url, now=lambda: dt.datetime.now(dt.UTC))
    return environment


_TEMPLATES = _environment()


def page(
    request: Request, template: str, *, who: Caller | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """Return a page, or a part of one.

    Args:
        request: What it answers.
        template: Its file.
        who: Who asks, for what the navigation shows of them.
        status: Its HTTP status.
        values: What the template needs.
    """
    shown = {
        "who": who,
        "keys_needed": needs_key(request, request.app.state.settings),
        "path": request.url.path,
        "is_login": False,
        **values,
    }
    text = _TEMPLATES.get_template(template).render(shown)
    return HTMLResponse(text, status, headers={"Content-Security-Policy": PAGE_POLICY})


class PageRoute(APIRoute):
    """A route whose errors are pages as well, in place of problem documents; without a key it asks for one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, wrapped."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except UnauthorizedError as error:
                # a browser that sends a login which is over says so by its cookie; the page must not be kept
                response = page(
                    request, "login.html", status=error.status, is_login=True, had_login=bool(request.cookies)
                )
                response.headers["WWW-Authenticate"] = UnauthorizedError.challenge
                return response
            except Problem as error:
                return error_page(request, error)
            except RequestValidationError as error:
                return error_page(request, _wrong_address(request, error))
            except (OperationalError, InterfaceError, PoolTimeoutError):
                missing = "the database cannot be reached; the page comes back as soon as it does"
                return error_page(request, UnavailableError(detail=missing, missing=["database"]))

        return answer


def _wrong_address(request: Request, error: RequestValidationError) -> Problem:
    """What is wrong with an address: its parameters where those are, else there is no such page."""
    found = from_details(error.errors())
    if any(one.loc[0] != "query" for one in found):
        return UnknownPathError(detail=f"there is no page at {request.url.path[:200]}")
    said = "; ".join(f"{'.'.join(map(str, one.loc[1:]))}: {one.msg}" for one in found)
    return InvalidRequestError(detail=f"the address of this page has a wrong parameter: {said}", errors=found)


def error_page(request: Request, problem: Problem) -> HTMLResponse:
    """Return a problem as a page, or as a note for the part of a page that asked for it."""
    template = "parts/error.html" if "hx-request" in request.headers else "error.html"
    return page(request, template, status=problem.status, problem=problem)
