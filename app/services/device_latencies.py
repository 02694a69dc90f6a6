"""Latencies of the devices that a caller may use, for the networks of one search space."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.db import devices as devices_db
from app.db.models import DeviceRow, SearchRow
from app.domain.latency import LatencyTable, layout_digests
from app.domain.search_space import SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction
from app.errors import DeviceNotFoundError
from app.services.callers import Caller

_KEPT = 0


@dataclass(frozen=True)
class DeviceLatency:
    """A device's latency as a function of an architecture of one search space.

    Attributes:
        row_id: Its key; latencies that are given anew have another, those that a search has kept have none (0).
        name: The device.
        function: Milliseconds.
    """

    row_id: int
    name: str
    function: AdditiveFunction = field(compare=False)


def names_for(session: Session, caller: Caller, search: SearchRow, space: SearchSpace) -> list[str]:
    """Return the names of the caller's, everybody's and the search's own devices that are known for its networks."""
    digests = layout_digests(space)
    registered = {row.name for row in devices_db.visible(session, caller.owner) if row.layout_digest in digests}
    return sorted(registered | _own(search).keys())


def latencies_on(
    connection: Connection, caller: Caller, names: Sequence[str], space: SearchSpace, search_id: uuid.UUID
) -> tuple[DeviceLatency, ...]:
    """Return devices' latencies for the networks of a search.

    The caller's own device goes before everybody's, and both before the latencies that the search itself has kept, of
    a device that was deleted since or was never registered.

    Raises:
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    if not names:
        return ()
    with Session(connection) as session:
        return tuple(_latency_on(session, caller, name, space, search_id) for name in names)


def _latency_on(session: Session, caller: Caller, name: str, space: SearchSpace, search_id: uuid.UUID) -> DeviceLatency:
    try:
        row = _row_of(session, caller, name, space)
    except DeviceNotFoundError:
        search = session.get(SearchRow, search_id)
        if search is None or name not in _own(search):
            raise
        return DeviceLatency(_KEPT, name, LatencyTable.from_dict(_own(search)[name]).function)
    return DeviceLatency(row.id, name, LatencyTable.from_dict(row.latencies).function)


def _own(search: SearchRow) -> dict[str, Any]:
    """The latencies that a search has kept, by device; searches of earlier versions have none."""
    kept: dict[str, Any] = search.config.get("device_latencies", {})
    return kept


def table_on(session: Session, caller: Caller, name: str, space: SearchSpace) -> LatencyTable:
    """Return one device's latencies for the networks of a space; the caller's own device before everybody's.

    Raises:
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    return LatencyTable.from_dict(_row_of(session, caller, name, space).latencies)


def _row_of(session: Session, caller: Caller, name: str, space: SearchSpace) -> DeviceRow:
    rows = devices_db.visible(session, caller.owner, name)
    if not rows:
        raise no_device(session, caller, name)
    digests = layout_digests(space)
    row = next((row for row in rows if row.layout_digest in digests), None)
    if row is None:
        known = ", ".join(sorted({row.search_space for row in rows}))
        raise DeviceNotFoundError(
            detail=f"device {name} is known for the search space {known}, not for the networks of this search "
            f"({space.name}); register its latencies for them with PUT /devices/{name} or nasatlas devices add"
        )
    return row


def no_device(session: Session, caller: Caller, name: str) -> DeviceNotFoundError:
    """Return the error that says which devices there are instead."""
    names: Sequence[str] = sorted({row.name for row in devices_db.visible(session, caller.owner)})
    there_are = f"there are {', '.join(names)}" if names else "none is registered yet"
    return DeviceNotFoundError(
        detail=f"there is no device {name!r} of yours; {there_are}. Register its latencies with PUT /devices/NAME "
        "or nasatlas devices add"
    )
