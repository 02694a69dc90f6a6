"""The limits of a question, from its query: how many multi-adds and parameters, how slow on which devices."""

from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import Field

from app.domain.names import DEVICE_NAME_PATTERN
from app.errors import FieldError, InvalidRequestError
from app.services.limits import AskedLimits

MAX_DEVICES = 8
"""So many devices may be limited together."""

_LatencyLimit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_DeviceName = Annotated[str, Field(pattern=DEVICE_NAME_PATTERN)]


def _limit(description: str) -> Any:
    return Query(ge=0, allow_inf_nan=False, description=description)


# async, because FastAPI sends a plain function to a thread
async def asked_limits(
    max_madds: Annotated[float | None, _limit("In millions.")] = None,
    max_params: Annotated[float | None, _limit("In millions.")] = None,
    max_latency_ms: Annotated[
        list[_LatencyLimit],
        Query(max_length=MAX_DEVICES, description="In milliseconds, on `device`; for several devices one each."),
    ] = [],  # noqa: B006 - FastAPI copies it
    device: Annotated[
        list[_DeviceName],
        Query(max_length=MAX_DEVICES, description="The device of `max_latency_ms`; several, each with its own."),
    ] = [],  # noqa: B006
) -> AskedLimits:
    """Return the limits that a query gives.

    Raises:
        InvalidRequestError: If devices and limits do not belong together.
    """
    return AskedLimits(max_madds, max_params, _latency_limits(device, max_latency_ms))


Limits = Annotated[AskedLimits, Depends(asked_limits)]


def _latency_limits(devices: list[str], max_latency_ms: list[float]) -> tuple[tuple[str, float | None], ...]:
    """Return the limits by device, in the order they were given; devices alone are shown, without limits.

    Raises:
        InvalidRequestError: If devices and limits do not belong together.
    """
    if max_latency_ms and not devices:
        raise refused("device", "max_latency_ms is the latency on a device; name it with device")
    if max_latency_ms and len(max_latency_ms) != len(devices):
        raise refused(
            "max_latency_ms",
            f"there are {len(devices)} devices and {len(max_latency_ms)} limits; give each device one, in their order",
        )
    if len(set(devices)) != len(devices):
        raise refused("device", "a device is named twice; name it once, with the lower limit")
    limits: list[float | None] = [*max_latency_ms] or [None] * len(devices)
    return tuple(zip(devices, limits, strict=True))


def refused(parameter: str, msg: str) -> InvalidRequestError:
    """Return the error of a parameter of a query."""
    return InvalidRequestError(detail=msg, errors=[FieldError(loc=["query", parameter], msg=msg)])
