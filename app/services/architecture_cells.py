"""The cells of an architecture, one by one, and how two architectures differ."""

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.domain.multi_adds import cell_costs
from app.domain.search_space import InvalidArchitectureError, SearchSpace
from app.errors import FieldError, InvalidRequestError
from app.schemas.architecture_cells import CellDifference, CellView
from app.services.callers import Caller
from app.services.lifecycle import require
from app.services.space_cache import searched_space


def read_cells(session: Session, search_id: uuid.UUID, code: str, caller: Caller) -> list[CellView]:
    """Return the cells of an architecture of a search's target space, front to back.

    Raises:
        SearchNotFoundError: If there is no search of that id.
        InvalidRequestError: If the code names no architecture of its space.
    """
    search = require(session, search_id, caller)
    space = searched_space(search.id, search.search_space, search.config).space
    try:
        return cells_of(space, space.parse_code(code))
    except InvalidArchitectureError as error:
        raise InvalidRequestError(
            detail=str(error), errors=[FieldError(loc=["path", "code"], msg=str(error))]
        ) from error


def cells_of(space: SearchSpace, architecture: Sequence[int]) -> list[CellView]:
    """Return the cells of an architecture, front to back."""
    costs, resolution = cell_costs(space), -(-space.input_resolution // space.stem.stride)
    views = []
    for cell_index, (cell, index) in enumerate(zip(space.cells, architecture, strict=True)):
        choice, cost = cell.choices[index], costs[cell_index][index]
        resolution = -(-resolution // cell.stride)
        is_block = choice.kind != "identity"
        views.append(
            CellView(
                cell_index=cell_index,
                choice=index,
                label=choice.label,
                kernel_size=choice.kernel_size if is_block else None,
                expansion=choice.expansion if is_block else None,
                se_ratio=choice.se_ratio,
                stride=cell.stride,
                in_channels=space.in_channels(cell_index),
                out_channels=cell.out_channels,
                resolution=resolution,
                keeps_shape=space.keeps_shape(cell_index),
                multi_adds=cost.multi_adds,
                params=cost.params,
            )
        )
    return views


def differences(first: Sequence[CellView], second: Sequence[CellView]) -> list[CellDifference]:
    """Return the cells in which two architectures of one space chose differently."""
    return [
        CellDifference(first=a, second=b, multi_adds=b.multi_adds - a.multi_adds, params=b.params - a.params)
        for a, b in zip(first, second, strict=True)
        if a.choice != b.choice
    ]
