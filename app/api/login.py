"""Logging browsers in and out: a key in a form becomes a cookie that scripts cannot read.

The cookie holds a secret of its own, not the key. See :mod:`app.api.authentication` for what keeps other sites' pages
from using it.
"""

from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, status
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.api.authentication import COOKIE, check_same_site
from app.api.dependencies import AppSettings, Database, open_errors
from app.db.engine import transaction
from app.errors import ContentTooLargeError, FieldError, ForbiddenError, InvalidRequestError, UnauthorizedError
from app.services import api_keys

router = APIRouter(tags=["login"])

_AFTERWARDS = "/"
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["key"],
                    "properties": {"key": {"type": "string", "minLength": 1, "description": "An API key, `nas_...`."}},
                },
                "example": {"key": "nas_..."},
            }
        },
    }
}
_SEE_OTHER: dict[int | str, dict[str, Any]] = {
    303: {
        "description": "Done; go on at `Location`.",
        "headers": {"Location": {"schema": {"type": "string"}}, "Set-Cookie": {"schema": {"type": "string"}}},
    }
}


@router.post(
    "/login",
    summary="Log a browser in",
    status_code=status.HTTP_303_SEE_OTHER,
    response_class=Response,
    openapi_extra=_FORM,
    responses={**_SEE_OTHER, **open_errors(UnauthorizedError, ForbiddenError, ContentTooLargeError)},
)
async def log_in(request: Request, engine: Database, settings: AppSettings) -> Response:
    """Take the API key in the form's field `key`, set the login's cookie, and go on to the first page."""
    # also here: another site's page must not log somebody in with its own key, and see what they do then
    check_same_site(request)
    secret = _form_field(await request.body(), "key")
    duration_s = settings.login_hours * 3600

    def make_login() -> str | None:
        with transaction(engine) as session:
            return api_keys.log_in(session, secret, duration_s=duration_s)

    token = await run_in_threadpool(make_login)
    if token is None:
        raise UnauthorizedError(detail="this API key is not valid; ask for one that `nasatlas keys create` made")
    response = RedirectResponse(_AFTERWARDS, status.HTTP_303_SEE_OTHER)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(duration_s),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post(
    "/logout",
    summary="Log a browser out",
    status_code=status.HTTP_303_SEE_OTHER,
    response_class=Response,
    responses={**_SEE_OTHER, **open_errors(ForbiddenError)},
)
async def log_out(request: Request, engine: Database) -> Response:
    """End the login of the cookie, here and in the database."""
    check_same_site(request)
    token = request.cookies.get(COOKIE)
    if token is not None:

        def end_login() -> None:
            with transaction(engine) as session:
                api_keys.log_out(session, token)

        await run_in_threadpool(end_login)
    response = RedirectResponse(_AFTERWARDS, status.HTTP_303_SEE_OTHER)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


def _form_field(body: bytes, name: str) -> str:
    """Return a field of a form as HTML sends it.

    Raises:
        InvalidRequestError: If it is not there once; the body is not repeated, since it may hold a secret.
    """
    values = parse_qs(body.decode("utf-8", errors="replace"), max_num_fields=None).get(name, [])
    if len(values) != 1:
        msg = f"send a form (application/x-www-form-urlencoded) with the field {name} once"
        raise InvalidRequestError(detail=msg, errors=[FieldError(loc=["body", name], msg=msg)])
    return values[0]
