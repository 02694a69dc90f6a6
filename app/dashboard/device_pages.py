"""The devices whose latency lookups can limit, and having a worker measure its own machine."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.dashboard.rendering import PageRoute, page
from app.db.engine import transaction
from app.domain.search_space import PRESETS
from app.services import devices

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/devices")
def show_devices(request: Request, engine: Database, caller: Reader) -> HTMLResponse:
    """Show the caller's devices and everybody's."""
    with transaction(engine) as session:
        found = devices.list_devices(session, caller)
    return page(request, "devices.html", who=caller, devices=found, spaces=sorted(PRESETS))
