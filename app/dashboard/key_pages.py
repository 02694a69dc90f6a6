"""Who one is here, logging in and out, and for administrators the list of keys."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.dashboard.rendering import PageRoute, page
from app.db.engine import transaction
from app.services import api_keys

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/keys")
def show_keys(request: Request, engine: Database, caller: Reader) -> HTMLResponse:
    """Show whose key the browser came with, and to administrators all keys (never the keys themselves)."""
    with transaction(engine) as session:
        mine = api_keys.key_of(session, caller)
        keys = api_keys.list_all(session) if caller.key_id is not None and "admin" in caller.scopes else []
    return page(request, "keys.html", who=caller, mine=mine, keys=keys)
