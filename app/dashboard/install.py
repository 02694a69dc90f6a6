"""Puts the pages into the application: their routes, their static files and the answer for pages that are not there."""

from fastapi import APIRouter, FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.api.authentication import Reader
from app.dashboard import (
    architecture_pages,
    atlas_pages,
    data_set_pages,
    device_pages,
    documentation_page,
    key_pages,
    search_pages,
    submission_pages,
)
from app.dashboard.rendering import STATIC, STATIC_PREFIX, PageRoute
from app.errors import UnknownPathError

_missing = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@_missing.get("/{rest:path}")
async def _no_such_page(rest: str, caller: Reader) -> Response:
    raise UnknownPathError(detail=f"there is no page at /ui/{rest[:200]}; begin at the list of searches")


class _KeptFiles(StaticFiles):
    """Static files whose addresses carry their digest: what has one may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        is_named_by_digest = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_named_by_digest else "no-cache"
        return response


def install_pages(app: FastAPI) -> None:
    """Add the pages; the application's own documentation page must be off."""
    app.mount(STATIC_PREFIX, _KeptFiles(directory=STATIC), name="static")
    for module in (
        search_pages,
        architecture_pages,
        atlas_pages,
        submission_pages,
        data_set_pages,
        device_pages,
        key_pages,
        documentation_page,
    ):
        app.include_router(module.router)
    app.include_router(_missing)
