"""Pages of architectures: one with all that is known of it, and two side by side."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import Database
from app.dashboard.drawing import draw
from app.dashboard.rendering import PageRoute, page
from app.db.engine import transaction
from app.errors import InvalidRequestError
from app.schemas.retraining import StandaloneView
from app.schemas.search import ArchitectureView
from app.services import architecture_cells, architecture_view, search_view

router = APIRouter(prefix="/ui/searches/{search_id}", route_class=PageRoute, include_in_schema=False)

Code = Annotated[str, Path(max_length=64)]


@router.get("/architectures/{code}")
def show_architecture(
    request: Request, search_id: uuid.UUID, code: Code, engine: Database, caller: Reader
) -> HTMLResponse:
    """Show an architecture: its cells, its costs, how it was evaluated and what each round predicts for it."""
    with transaction(engine) as session:
        search = search_view.read_one(session, search_id, caller)
        cells = architecture_cells.read_cells(session, search_id, code, caller)
    architecture = architecture_view.read_architecture(engine, search_id, code, caller)
    return page(
        request,
        "architecture.html",
        who=caller,
        search=search,
        architecture=architecture,
        picture=draw(cells),
        cells=cells,
        latencies=architecture_view.read_latencies(engine, search_id, code, caller),
        other=None if search.final is None or search.final.code == code else search.final.code,
    )


@router.get("/compare")
def compare(
    request: Request,
    search_id: uuid.UUID,
    engine: Database,
    caller: Reader,
    first: Annotated[str, Query(max_length=64)] = "",
    second: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """Show two architectures, cell by cell; what is wrong with a code is said beside its field."""
    codes, errors = {"first": first.strip(), "second": second.strip()}, {}
    cells = {}
    with transaction(engine) as session:
        search = search_view.read_one(session, search_id, caller)
        for name, code in codes.items():
            try:
                if code:
                    cells[name] = architecture_cells.read_cells(session, search_id, code, caller)
            except InvalidRequestError as error:
                errors[name] = error.detail
    views = {name: architecture_view.read_architecture(engine, search_id, codes[name], caller) for name in cells}
    both = len(views) == len(codes)
    found = architecture_cells.differences(cells["first"], cells["second"]) if both else []
    marked = [one.first.cell_index for one in found]
    return page(
        request,
        "compare.html",
        who=caller,
        search=search,
        codes=codes,
        errors=errors,
        views=views,
        differences=found,
        standalone=_trained_alike(views["first"], views["second"]) if both else [],
        drawings={name: draw(of_one, marked) for name, of_one in cells.items()} if both else {},
    )


def _trained_alike(
    first: ArchitectureView, second: ArchitectureView
) -> list[tuple[StandaloneView | None, StandaloneView | None]]:
    """Stand-alone accuracies of two architectures, side by side where they were trained in one way; the latest each."""

    def by_way(view: ArchitectureView) -> dict[tuple[object, ...], StandaloneView]:
        # the latest comes first, and is the one that stays
        return {
            (one.recipe, one.network, one.from_supernet, one.epochs, one.images): one
            for one in reversed(view.standalone)
        }

    ways_of_first, ways_of_second = by_way(first), by_way(second)
    ways = list(ways_of_first | ways_of_second)
    return [(ways_of_first.get(way), ways_of_second.get(way)) for way in ways]
