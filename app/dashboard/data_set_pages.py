"""Data sets: those that are here, what one holds, and uploading one."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import AppSettings, Database
from app.dashboard.rendering import PageRoute, page
from app.db.engine import transaction
from app.domain.data_sets import DataSetError, is_hub_data_set
from app.domain.names import DATA_SET_NAME_PATTERN
from app.errors import DataSetNotFoundError, InvalidRequestError
from app.schemas.data_set import DataSetView
from app.services import data_sets
from app.services.data_sets import Shown

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)

_CLASSES_PER_PAGE, _IMAGES_PER_CLASS, _RESOLUTION = 20, 6, 48
_CLASSES_LISTED = 5000
"""Lines of a list that a browser scrolls at once; the pages of images reach every class."""

Name = Annotated[str, Path(pattern=DATA_SET_NAME_PATTERN)]


@router.get("/data")
def show_data_sets(request: Request, engine: Database, settings: AppSettings, caller: Reader) -> HTMLResponse:
    """Show the data sets that the caller may search on, and the form that uploads one."""
    with transaction(engine) as session:
        found = data_sets.list_data_sets(session, caller, settings)
    return page(request, "data_sets.html", who=caller, found=found.items)


@router.get("/data/{name}")
def show_data_set(
    request: Request,
    name: Name,
    engine: Database,
    settings: AppSettings,
    caller: Reader,
    first_class: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> HTMLResponse:
    """Show a data set: all its classes, images of some of them, and all images that cannot be read."""
    with transaction(engine) as session:
        summary, root = data_sets.locate(session, caller, name, settings)
    shown = Shown(_IMAGES_PER_CLASS, _RESOLUTION, first_class - first_class % _CLASSES_PER_PAGE, _CLASSES_PER_PAGE)
    found, samples = data_sets.view_with_samples(summary, root, shown)
    return page(
        request,
        "data_set.html",
        who=caller,
        found=found,
        samples=samples.items,
        first_class=shown.first_class,
        per_page=_CLASSES_PER_PAGE,
        num_listed=_CLASSES_LISTED,
    )


@router.get("/data-set")
def describe_data_set(
    request: Request,
    engine: Database,
    settings: AppSettings,
    caller: Reader,
    dataset: Annotated[str, Query(max_length=200)] = "",
) -> HTMLResponse:
    """Say what a data set holds, beside the field that names it."""
    found: DataSetView | None = None
    is_hub, error = False, None
    try:
        is_hub = is_hub_data_set(dataset)
        if dataset and not is_hub:
            with transaction(engine) as session:
                summary, root = data_sets.locate(session, caller, dataset, settings)
            found = data_sets.view(summary, root)
    except (DataSetNotFoundError, InvalidRequestError) as problem:
        error = problem.detail
    except DataSetError as problem:
        error = str(problem)
    return page(request, "parts/data_set.html", who=caller, info=found, is_hub=is_hub, error=error)
