"""Who makes a request: an API key as bearer token, a browser's login cookie, or anybody where no keys are needed.

A bearer token is sent on purpose, a cookie by the browser itself, whichever site's page made the request. So requests
that change something and come with a cookie (or with nothing, on loopback, where the address is all the protection
there is) must come from a page of ours: browsers say so in ``Sec-Fetch-Site`` and ``Origin``, which no page can forge.
SameSite=Strict on the cookie is the second lock of the same door. Programs that are no browsers send neither header.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import AppSettings
from app.db.engine import autocommit
from app.errors import ForbiddenError, UnauthorizedError
from app.services import api_keys
from app.services.callers import EVERYONE, Caller, Scope
from app.services.rate_limit import RateLimiter
from app.settings import Settings, is_loopback

COOKIE = "nasatlas_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ANSWER_TO_401 = "send `Authorization: Bearer nas_...` with a key that `nasatlas keys create` made"


async def authenticate(request: Request, settings: Settings) -> Caller:
    """Return who makes a request.

    Raises:
        UnauthorizedError: If a key is needed, and there is none or no valid one.
        ForbiddenError: If another site's page makes the request.
        TooManyRequestsError: If the key's rate limit is reached.
    """
    if not needs_key(request, settings):
        _check_host_is_no_strange_name(request, settings)
        check_same_site(request)
        return EVERYONE
    bearer = bearer_token(request)
    if bearer is None:
        if COOKIE not in request.cookies:
            raise UnauthorizedError(detail=f"this needs an API key; {_ANSWER_TO_401}")
        check_same_site(request)
    caller = await run_in_threadpool(_identify, request, bearer)
    structlog.contextvars.bind_contextvars(key_id=str(caller.key_id))
    return caller


def _identify(request: Request, bearer: str | None) -> Caller:
    """Return whose the key or the login is; one hop to a thread for the database and for the rate limit."""
    with autocommit(request.app.state.engine) as session:
        if bearer is not None:
            caller = api_keys.caller_of_key(session, bearer)
        else:
            caller = api_keys.caller_of_login(session, request.cookies[COOKIE])
    if caller is None:
        what = "login is over; log in again" if bearer is None else f"API key is not valid; {_ANSWER_TO_401}"
        raise UnauthorizedError(detail=f"this {what}")
    limiter: RateLimiter = request.app.state.rate_limiter
    limiter.check(caller)
    return caller


def needs_key(request: Request, settings: Settings) -> bool:
    """Whether a request must say who makes it.

    Where the settings say that the API listens on loopback, but the request came in at another address, they are
    wrong (a server started by hand with another ``--host``): then it must.
    """
    if settings.keys_required() or settings.authentication == "none":
        return settings.keys_required()
    came_in_at = (request.scope.get("server") or ("", None))[0]
    return _is_ip_address(came_in_at) and not is_loopback(came_in_at)


def bearer_token(request: Request) -> str | None:
    """Return the token of the Authorization header; None without the header.

    Raises:
        UnauthorizedError: If the header is of another kind.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError(detail=f"this Authorization header is no bearer token; {_ANSWER_TO_401}")
    return token.strip()


def check_same_site(request: Request) -> None:
    """Check that a request which changes something does not come from another site's page.

    Raises:
        ForbiddenError: If it does.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours:
        raise ForbiddenError(
            detail="this request comes from another site's page; open the service's own page, or send an API key as "
            "bearer token"
        )


def _check_host_is_no_strange_name(request: Request, settings: Settings) -> None:
    """Refuse the names of others for our address (DNS rebinding): their pages would be of our origin.

    Addresses and names without a dot (localhost, a container's) can be nobody's in the public DNS. It makes no
    difference that something in front checks who asks: a browser that rebinds goes past it.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    is_public_name = "." in host and not _is_ip_address(host) and not host.endswith(".localhost")
    if is_public_name and host not in settings.allowed_hosts:
        raise ForbiddenError(
            detail="without API keys this service answers to localhost, addresses and names without a dot only, not to "
            "that name; add it to NASATLAS_ALLOWED_HOSTS if it is the service's, or set NASATLAS_AUTHENTICATION=keys"
        )


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _with_scope(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    # one dependency, not one of two others: FastAPI takes as long to see to each as a lookup's query
    async def check(request: Request) -> Caller:
        caller = await authenticate(request, request.app.state.settings)
        caller.check_may(scope)
        return caller

    return check


Reader = Annotated[Caller, Depends(_with_scope("read"))]
Submitter = Annotated[Caller, Depends(_with_scope("submit"))]


async def check_may_read_metrics(request: Request, settings: AppSettings) -> None:
    """Let in whoever may read the metrics: an administrator, or the holder of NASATLAS_METRICS_TOKEN.

    They count everybody's searches, so a key that reads its owner's is not enough; and a scraper should not hold a key
    that may end everybody's searches, so it has a token that opens nothing else.
    """
    token = settings.metrics_token
    if token is not None and needs_key(request, settings):
        given = bearer_token(request) or ""
        if hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
            return
    (await authenticate(request, settings)).check_may("admin")
