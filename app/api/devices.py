"""Devices: latencies that lookups can limit."""

from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from app.api.authentication import Reader, Submitter
from app.api.dependencies import AppSettings, Database, errors
from app.api.submissions import IdempotencyKey, answer_submitted, submission_responses
from app.db.engine import transaction
from app.domain.names import DEVICE_NAME_PATTERN
from app.errors import ContentTooLargeError, DeviceNotFoundError
from app.schemas.device import DeviceList, DeviceRequest, DeviceView, MeasurementRequest
from app.schemas.search import SearchView
from app.services import devices
from app.services.quotas import Quotas
from app.services.webhooks import WebhookPolicy

router = APIRouter(prefix="/devices", tags=["devices"])

Name = Annotated[str, Path(pattern=DEVICE_NAME_PATTERN, description="The device.", examples=["pixel"])]


@router.get("", summary="List devices", responses=errors())
def list_devices(engine: Database, caller: Reader) -> DeviceList:
    """Return your devices and everybody's, by name; an item per device and search space."""
    with transaction(engine) as session:
        return DeviceList(items=devices.list_devices(session, caller))


@router.get("/{name}", summary="Read a device", responses=errors(DeviceNotFoundError))
def read(name: Name, engine: Database, caller: Reader) -> DeviceList:
    """Return the latencies of a device, an item per search space; your own before everybody's."""
    with transaction(engine) as session:
        return DeviceList(items=devices.read(session, caller, name))


@router.put(
    "/{name}",
    summary="Register a device",
    responses={
        201: {"model": DeviceView, "description": "The device is new."},
        **errors(ContentTooLargeError),
    },
)
def register(name: Name, request: DeviceRequest, response: Response, engine: Database, caller: Submitter) -> DeviceView:
    """Store a device's latencies for the networks of a search space, in the place of those it had.

    From then on lookups can limit its latency, of searches that finished before as well. With the scope admin (or
    where no keys are needed) the device is everybody's to use.
    """
    with transaction(engine) as session:
        view, is_new = devices.register(session, caller, name, request)
    if is_new:
        response.status_code = status.HTTP_201_CREATED
    return view


@router.post(
    "/{name}/measurement",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Measure a device",
    responses=submission_responses("job"),
)
def measure(
    name: Name,
    request: MeasurementRequest,
    response: Response,
    engine: Database,
    settings: AppSettings,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> SearchView:
    """Queue a job that measures the machine of the worker which takes it; its result is registered under the name.

    The job has the routes of a search: progress, events, cancel and resume.
    """
    with transaction(engine) as session:
        submitted = devices.submit_measurement(
            session,
            caller,
            name,
            request,
            idempotency_key=idempotency_key,
            quotas=Quotas.of(settings),
            webhooks=WebhookPolicy.of(settings),
        )
    return answer_submitted(engine, caller, submitted, response)


@router.delete(
    "/{name}",
    summary="Delete a device",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=errors(DeviceNotFoundError),
)
def delete(name: Name, engine: Database, caller: Submitter) -> None:
    """Delete a device for all search spaces; with the scope admin, one that is everybody's."""
    with transaction(engine) as session:
        devices.delete(session, caller, name)
