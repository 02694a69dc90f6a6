"""Devices: registered by whoever submits, used by their owner, or by everybody if an administrator registered them."""

from sqlalchemy.orm import Session

from app.db import devices as devices_db
from app.db.models import DeviceRow
from app.domain.device_measurement import DeviceMeasurement
from app.domain.latency import LatencyTable, layout_digests
from app.domain.search_config import from_preset
from app.domain.search_space import SearchSpace, preset
from app.errors import InvalidRequestError
from app.schemas.device import DeviceRequest, DeviceView, MeasurementRequest
from app.services import submission
from app.services.callers import Caller
from app.services.device_latencies import no_device
from app.services.field_errors import field_errors
from app.services.quotas import Quotas
from app.services.submission import Submitted
from app.services.webhooks import WebhookPolicy


def register(session: Session, caller: Caller, name: str, request: DeviceRequest) -> tuple[DeviceView, bool]:
    """Store the latencies of a device; for the same networks they take the place of those it had.

    Returns:
        The device, and whether it is new.

    Raises:
        InvalidRequestError: If the latencies do not fit the search space.
    """
    space, table = _checked(request)
    row, is_new = devices_db.put(
        session,
        owner=_owner_of_new(caller),
        name=name,
        layout_digests=layout_digests(space),
        search_space=space.name,
        latencies=table.to_dict(),
        origin="uploaded",
        report=request.report,
    )
    return _view(row), is_new


def submit_measurement(
    session: Session,
    caller: Caller,
    name: str,
    request: MeasurementRequest,
    *,
    idempotency_key: str | None,
    quotas: Quotas,
    webhooks: WebhookPolicy,
) -> Submitted:
    """Store a job that measures a device on the machine of a worker, in state ``queued``, with its step.

    Raises:
        InvalidRequestError: If there is no such search space, or the webhook will not do.
        TooManyRequestsError: If the owner has as much open as one may have.
        IdempotencyConflictError: If the key was used before with another body.
    """
    given = request.search_space
    try:
        space = preset(given) if isinstance(given, str) else given
    except ValueError as error:
        errors = field_errors(error, "body", "search_space")
        raise InvalidRequestError(detail=errors[0].msg, errors=errors) from None
    if errors := webhooks.errors(request.webhook_url):
        raise InvalidRequestError(detail=errors[0].msg, errors=errors)
    measurement = DeviceMeasurement(
        name=name, owner=_owner_of_new(caller), runtime=request.runtime, threads=request.threads
    )
    values = {
        "kind": "measurement",
        "owner": caller.owner,
        # of a job only the space counts; the rest is what a search must have
        "dataset": "-",
        "preset": "quick",
        "search_space": space.model_dump(mode="json"),
        "config": from_preset("quick", {}).model_dump(mode="json"),
        "num_rounds": 0,
        "webhook_url": request.webhook_url,
    }
    return submission.store(
        session,
        values,
        "measure_device",
        {"measurement": measurement.model_dump(mode="json")},
        request={"device": name, **request.model_dump(mode="json", exclude_none=True)},
        idempotency_key=idempotency_key,
        quotas=quotas,
    )


def _checked(request: DeviceRequest) -> tuple[SearchSpace, LatencyTable]:
    given, field = request.search_space, "search_space"
    try:
        space = preset(given) if isinstance(given, str) else given
        field = "csv" if request.csv is not None else "cells_ms"
        if request.csv is not None:
            return space, LatencyTable.from_csv(request.csv, space)
        assert request.base_ms is not None
        assert request.cells_ms is not None
        table = LatencyTable(request.base_ms, tuple(map(tuple, request.cells_ms)))
        table.check_fits(space)
    except ValueError as error:
        errors = field_errors(error, "body", field)
        raise InvalidRequestError(detail=errors[0].msg, errors=errors) from None
    return space, table


def _owner_of_new(caller: Caller) -> str | None:
    return None if "admin" in caller.scopes else caller.owner


def list_devices(session: Session, caller: Caller) -> list[DeviceView]:
    """Return all devices that the caller may use."""
    return [_view(row) for row in devices_db.visible(session, caller.owner)]


def read(session: Session, caller: Caller, name: str) -> list[DeviceView]:
    """Return what is known of one device: an item per search space.

    Raises:
        DeviceNotFoundError: If there is none of that name.
    """
    rows = devices_db.visible(session, caller.owner, name)
    if not rows:
        raise no_device(session, caller, name)
    return [_view(row) for row in rows]


def delete(session: Session, caller: Caller, name: str) -> None:
    """Delete the caller's device of a name, for all search spaces.

    Raises:
        DeviceNotFoundError: If the caller has none of that name.
    """
    if not devices_db.remove(session, _owner_of_new(caller), name):
        raise no_device(session, caller, name)


def _view(row: DeviceRow) -> DeviceView:
    table = LatencyTable.from_dict(row.latencies)
    min_ms, max_ms = table.function.shortest_range
    return DeviceView(
        name=row.name,
        search_space=row.search_space,
        is_shared=row.owner is None,
        origin=row.origin,
        created_at=row.created_at,
        base_ms=table.base_ms,
        cells_ms=[list(cell) for cell in table.cells_ms],
        min_ms=min_ms,
        max_ms=max_ms,
        report=row.report,
    )
