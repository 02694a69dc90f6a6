"""Pages of searches: the list, one search, and the parts of both that are asked for again while work goes on."""

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi_pagination.api import set_page
from fastapi_pagination.ext.sqlalchemy import paginate
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.api.events import TERMINAL_STATES
from app.api.pages import Page, SearchPageParams
from app.dashboard.drawing import draw
from app.dashboard.progress_steps import progress_steps
from app.dashboard.rendering import PageRoute, page
from app.db import searches
from app.db.engine import transaction
from app.schemas.atlas import RoundFit, TrainingCurve
from app.schemas.search import SearchState, SearchSummary, SearchView
from app.services import architecture_cells, round_fit, search_view
from app.services.callers import Caller

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def _list_page(
    engine: Database, caller: Caller, params: SearchPageParams, state: str | None, kind: str | None
) -> Page[SearchSummary]:
    with transaction(engine) as session, set_page(Page[SearchSummary]):
        found: Page[SearchSummary] = paginate(
            session,
            searches.searches_newest_first(state, caller.visible_owner, kind),
            params,
            transformer=lambda rows: search_view.summaries(session, rows),
        )
        return found


@router.get("/", name="home")
def list_searches(
    request: Request,
    engine: Database,
    caller: Reader,
    params: Annotated[SearchPageParams, Depends()],
    state: SearchState | None = None,
    kind: Literal["search", "all"] = "search",
) -> HTMLResponse:
    """Show the searches, newest first, with what they are doing.

    The list renews itself: often while any is at work, else slowly and when it is looked at again, since what has ended
    may be resumed or deleted elsewhere.

    With ``kind=all`` also the jobs about their architectures and about devices.
    """
    found = _list_page(engine, caller, params, state, None if kind == "all" else kind)
    template = "parts/search_rows.html" if "hx-request" in request.headers else "searches.html"
    is_live = any(search.state not in TERMINAL_STATES for search in found.items)
    return page(
        request, template, who=caller, found=found, state=state, kind=kind, is_live=is_live, query=request.url.query
    )


@router.get("/ui/searches/{search_id}")
def show_search(request: Request, search_id: uuid.UUID, engine: Database, caller: Reader) -> HTMLResponse:
    """Show one search: where it stands, how it was trained, its rounds and what it found."""
    return page(request, "search.html", who=caller, **_shown(engine, search_id, caller))


@router.get("/ui/searches/{search_id}/live")
def show_progress(request: Request, search_id: uuid.UUID, engine: Database, caller: Reader) -> HTMLResponse:
    """Return the part of a search's page that changes while it is at work."""
    return page(request, "parts/search_live.html", who=caller, **_shown(engine, search_id, caller))


@router.get("/ui/searches/{search_id}/rounds")
def show_rounds(request: Request, search_id: uuid.UUID, engine: Database, caller: Reader) -> HTMLResponse:
    """Return the rounds of a search's page."""
    with transaction(engine) as session:
        search = search_view.read_one(session, search_id, caller)
    return page(request, "parts/rounds.html", who=caller, search=search)


@router.get("/ui/searches/{search_id}/training.json")
def training_curve(search_id: uuid.UUID, engine: Database, caller: Reader) -> TrainingCurve:
    """Return what the chart of the training draws."""
    with transaction(engine) as session:
        return round_fit.read_training_curve(session, search_id, caller)


@router.get("/ui/searches/{search_id}/rounds/{round_index}/fit.json")
def fit_of_round(search_id: uuid.UUID, round_index: int, engine: Database, caller: Reader) -> RoundFit:
    """Return what the chart of a round's predictions draws."""
    with transaction(engine) as session:
        return round_fit.read_round_fit(session, search_id, round_index, caller)


def _shown(engine: Database, search_id: uuid.UUID, caller: Caller) -> dict[str, Any]:
    """What the templates of a search need."""
    with transaction(engine) as session:
        search = search_view.read_one(session, search_id, caller)
        best = None if search.kind in ("export", "measurement") else _best_code(search)
        picture = draw(architecture_cells.read_cells(session, search_id, best, caller)) if best else None
    return {
        "search": search,
        "title": _title(search),
        "steps": progress_steps(search),
        "is_live": search.state not in TERMINAL_STATES,
        "best_code": best,
        "picture": picture,
        "candidates": _candidates(search),
        "tables": [one.round_index for one in search.rounds if one.table_digest is not None],
    }


def _title(search: SearchView) -> str:
    """What the page of a search or of another job is called."""
    about = f"{search.dataset} on {search.search_space}"
    return {
        "search": about,
        "retraining": f"Retraining for {about}",
        "export": f"Export for {about}",
        "measurement": f"Measuring networks of {search.search_space}",
    }[search.kind]


def _best_code(search: SearchView) -> str | None:
    """The final architecture, or the best of the latest round that has one."""
    if search.final is not None:
        return search.final.code
    return next((one.best.code for one in reversed(search.rounds) if one.best is not None), None)


def _candidates(search: SearchView) -> list[tuple[str, str]]:
    """Architectures that one may want to compare, with where they come from."""
    found: dict[str, str] = {}
    if search.final is not None:
        found[search.final.code] = "final"
    for one in reversed(search.rounds):
        for place, code in enumerate(one.preserved, start=1):
            found.setdefault(code, f"round {one.round_index}, kept as number {place}")
    if search.config.initial_architecture is not None:
        found.setdefault(search.config.initial_architecture, "initial architecture")
    return list(found.items())
