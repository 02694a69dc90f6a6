"""The devices whose latency lookups can limit, and having a worker measure its own machine."""

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.dashboard.rendering import PageRoute, page
from app.db import searches
from app.db.engine import transaction
from app.domain.search_space import PRESETS, SearchSpace, preset
from app.services import devices
from app.services.callers import Caller

_NUM_SEARCHES = 50

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/devices")
def show_devices(request: Request, engine: Database, caller: Reader) -> HTMLResponse:
    """Show the caller's devices and everybody's, and the spaces whose networks can be measured."""
    with transaction(engine) as session:
        found = devices.list_devices(session, caller)
        own = _spaces_of_searches(session, caller)
    return page(
        request, "devices.html", who=caller, devices=found, spaces={name: name for name in sorted(PRESETS)} | own
    )


def _spaces_of_searches(session: Session, caller: Caller) -> dict[str, str]:
    """Spaces that the caller's latest searches brought along, as JSON by a name that no preset has."""
    rows = session.scalars(searches.searches_newest_first(None, caller.visible_owner).limit(_NUM_SEARCHES))
    spaces = [SearchSpace.model_validate(row.search_space) for row in rows]
    own = [space for space in spaces if space.name not in PRESETS or preset(space.name) != space]
    return {f"{space.name} (of a search)": space.model_dump_json() for space in reversed(own)}
