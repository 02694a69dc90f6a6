"""The atlas: a whole lookup table, or the whole space, as a picture that answers to limits."""

import uuid
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.api.limits import MAX_DEVICES, Limits
from app.dashboard.rendering import PageRoute, page
from app.db import searches
from app.db.engine import transaction
from app.db.models import SearchRow
from app.schemas.atlas import Density, Within
from app.schemas.search import SearchView
from app.services import atlas, search_view
from app.services.callers import Caller

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)

_NUM_OFFERED = 50


@router.get("/atlas")
def show_atlas(
    request: Request,
    engine: Database,
    caller: Reader,
    search_id: uuid.UUID | None = None,
    round_index: int | None = None,
    scope: Literal["table", "space"] = "table",
) -> HTMLResponse:
    """Show the atlas of a search, by default of the latest that has one."""
    with transaction(engine) as session:
        offered = _offered(session, caller)
        if search_id is None and offered:
            search_id = offered[0].id
        search = None if search_id is None else search_view.read_one(session, search_id, caller)
        known = [] if search_id is None else atlas.devices_of(session, caller, search_id)
    tables = [] if search is None else _rounds_with_tables(search)
    if round_index not in tables:
        round_index = tables[-1] if tables else None
    return page(
        request,
        "atlas.html",
        who=caller,
        offered=offered,
        search=search,
        tables=tables,
        round_index=round_index,
        devices=known,
        most_devices=MAX_DEVICES,
        scope=scope if search is not None and search.state == "succeeded" else "table",
    )


@router.get("/searches/{search_id}/rounds/{round_index}/density.json")
def density(search_id: uuid.UUID, round_index: int, engine: Database, caller: Reader) -> Density:
    """Return what the atlas of a table draws."""
    return atlas.density(engine, caller, search_id, round_index)


@router.get("/searches/{search_id}/rounds/{round_index}/within.json")
def within(
    search_id: uuid.UUID,
    round_index: int,
    engine: Database,
    caller: Reader,
    asked: Limits,
) -> Within:
    """Return what of a table meets the limits, in millions and milliseconds."""
    return atlas.within(engine, caller, search_id, round_index, asked)


@router.get("/searches/{search_id}/rounds/{round_index}/rows/{subspace_index}")
def open_row(search_id: uuid.UUID, round_index: int, subspace_index: int, engine: Database, caller: Reader) -> Response:
    """Go to the architecture of a table's row."""
    code = atlas.code_of_row(engine, caller, search_id, round_index, subspace_index)
    return RedirectResponse(f"/ui/searches/{search_id}/architectures/{code}", 303)


def _offered(session: Session, caller: Caller) -> list[SearchRow]:
    """The searches that have a table to look at, newest first."""
    rows = session.scalars(searches.searches_newest_first(None, caller.visible_owner).limit(_NUM_OFFERED)).all()
    with_tables = {table.search_id for table in searches.tables_of(session, [row.id for row in rows])}
    return [row for row in rows if row.id in with_tables]


def _rounds_with_tables(search: SearchView) -> list[int]:
    return [one.round_index for one in search.rounds if one.table_digest is not None]
