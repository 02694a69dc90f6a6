"""Lookups: the best architectures under hardware limits, and a table's Pareto front."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from app.api.authentication import Reader
from app.api.dependencies import Database, errors
from app.api.limits import Limits, refused
from app.domain.lookup_table import BAND_DEPTH
from app.errors import (
    DeviceNotFoundError,
    NoTableError,
    RoundNotFoundError,
    SearchNotFoundError,
    TableNotReadyError,
)
from app.schemas.lookup import LookupAnswer, ParetoAnswer
from app.services import lookup as lookup_service
from app.services import space_lookup

router = APIRouter(prefix="/lookup", tags=["lookup"])

_ERRORS = (SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError)

SearchId = Annotated[
    uuid.UUID | None,
    Query(description="The search whose table is asked; by default the latest succeeded one that you may see."),
]
RoundIndex = Annotated[
    int | None, Query(ge=0, lt=2**31, description="The round whose table is asked; by default the search's last one.")
]


# async with one hop to a thread for the queries: of a plain function FastAPI sends the answer to a thread as well
@router.get("", summary="The best architectures under limits", responses=errors(*_ERRORS, DeviceNotFoundError))
async def look_up(
    engine: Database,
    caller: Reader,
    asked: Limits,
    search_id: SearchId = None,
    round_index: RoundIndex = None,
    scope: Annotated[
        Literal["table", "space"],
        Query(description="A round's table, or the whole search space by the predictor fitted on all rounds' pairs."),
    ] = "table",
    limit: Annotated[int, Query(ge=1, le=BAND_DEPTH, description="How many.")] = 10,
) -> LookupAnswer:
    """Return the architectures with the highest predicted accuracy among those within all limits.

    A table's answer is exact: what a scan of the whole table would give. A table holds the last round's subspace; for
    limits that it does not reach, ask the whole space. Limits that nothing meets give no items, a message and the
    feasible ranges.
    """
    if scope == "space":
        if round_index is not None:
            raise refused("round_index", "the whole space belongs to no round; leave it out, or ask scope=table")
        return await run_in_threadpool(
            space_lookup.look_up_space, engine, caller, search_id=search_id, asked=asked, limit=limit
        )
    return await run_in_threadpool(
        lookup_service.look_up,
        engine,
        caller,
        search_id=search_id,
        round_index=round_index,
        asked=asked,
        limit=limit,
    )


@router.get("/pareto", summary="A table's Pareto front", responses=errors(*_ERRORS))
def pareto(
    engine: Database,
    caller: Reader,
    cost: Annotated[Literal["multi_adds", "params"], Query(description="Accuracy over which cost.")] = "multi_adds",
    search_id: SearchId = None,
    round_index: RoundIndex = None,
) -> ParetoAnswer:
    """Return all architectures that no other beats in both predicted accuracy and the cost, cheapest first."""
    return lookup_service.pareto(engine, caller, search_id=search_id, round_index=round_index, cost=cost)
