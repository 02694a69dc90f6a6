"""Lookups: the best architectures under hardware limits, and a table's Pareto front."""

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from app.api.authentication import Reader
from app.api.dependencies import Database, errors
from app.domain.lookup_table import BAND_DEPTH
from app.domain.names import DEVICE_NAME_PATTERN
from app.errors import (
    DeviceNotFoundError,
    FieldError,
    InvalidRequestError,
    NoTableError,
    RoundNotFoundError,
    SearchNotFoundError,
    TableNotReadyError,
)
from app.schemas.lookup import LookupAnswer, ParetoAnswer
from app.services import lookup as lookup_service
from app.services import space_lookup
from app.services.limits import AskedLimits

router = APIRouter(prefix="/lookup", tags=["lookup"])

_ERRORS = (SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError)

SearchId = Annotated[
    uuid.UUID | None,
    Query(description="The search whose table is asked; by default the latest succeeded one that you may see."),
]
RoundIndex = Annotated[
    int | None, Query(ge=0, lt=2**31, description="The round whose table is asked; by default the search's last one.")
]


MAX_DEVICES = 8
"""So many devices may be limited together."""

LatencyLimit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DeviceName = Annotated[str, Field(pattern=DEVICE_NAME_PATTERN)]


def _limit(description: str) -> Any:
    return Query(ge=0, allow_inf_nan=False, description=description)


# async with one hop to a thread for the queries: of a plain function FastAPI sends the answer to a thread as well
@router.get("", summary="The best architectures under limits", responses=errors(*_ERRORS, DeviceNotFoundError))
async def look_up(
    engine: Database,
    caller: Reader,
    max_madds: Annotated[float | None, _limit("In millions.")] = None,
    max_params: Annotated[float | None, _limit("In millions.")] = None,
    max_latency_ms: Annotated[
        list[LatencyLimit],
        Query(max_length=MAX_DEVICES, description="In milliseconds, on `device`; for several devices one each."),
    ] = [],  # noqa: B006 - FastAPI copies it
    device: Annotated[
        list[DeviceName],
        Query(max_length=MAX_DEVICES, description="The device of `max_latency_ms`; several, each with its own."),
    ] = [],  # noqa: B006
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
    asked = AskedLimits(max_madds, max_params, latency_limits(device, max_latency_ms))
    if scope == "space":
        if round_index is not None:
            raise _refused("round_index", "the whole space belongs to no round; leave it out, or ask scope=table")
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


def latency_limits(devices: list[str], max_latency_ms: list[float]) -> tuple[tuple[str, float | None], ...]:
    """Return the limits by device, in the order they were given; devices alone are shown, without limits.

    Raises:
        InvalidRequestError: If devices and limits do not belong together.
    """
    if max_latency_ms and not devices:
        raise _refused("device", "max_latency_ms is the latency on a device; name it with device")
    if max_latency_ms and len(max_latency_ms) != len(devices):
        raise _refused(
            "max_latency_ms",
            f"there are {len(devices)} devices and {len(max_latency_ms)} limits; give each device one, in their order",
        )
    if len(set(devices)) != len(devices):
        raise _refused("device", "a device is named twice; name it once, with the lower limit")
    limits: list[float | None] = [*max_latency_ms] or [None] * len(devices)
    return tuple(zip(devices, limits, strict=True))


def _refused(parameter: str, msg: str) -> InvalidRequestError:
    return InvalidRequestError(detail=msg, errors=[FieldError(loc=["query", parameter], msg=msg)])
