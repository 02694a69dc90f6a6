"""Routes for those who run the service: is it alive, can it work, how much does it do."""

from importlib.metadata import version

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.api.authentication import check_may_read_metrics
from app.api.dependencies import AppSettings, Database, errors, open_errors
from app.api.metrics import render
from app.schemas.operations import Health, Readiness
from app.services import health

router = APIRouter(tags=["operations"])

_METRICS = """# HELP nasatlas_searches Searches by state.
# TYPE nasatlas_searches gauge
nasatlas_searches{state="running"} 2.0
"""


@router.get("/healthz", summary="Is the process alive?", responses=open_errors())
def healthz() -> Health:
    """Answer as long as the process can answer anything; nothing else is looked at."""
    return Health(version=version("nasatlas"))


@router.get("/readyz", summary="Can it do its work?", responses=open_errors())
def readyz(engine: Database, settings: AppSettings) -> Readiness:
    """Check the database, its schema and the broker; 503 names what is missing."""
    health.check_ready(engine, settings)
    return Readiness()


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    dependencies=[Depends(check_may_read_metrics)],
    responses={200: {"content": {"text/plain": {"example": _METRICS}}}, **errors()},
)
def metrics(request: Request) -> Response:
    """Return what the service does and how fast: requests, searches and steps by state, the queue, the workers."""
    return Response(render(request.app), media_type=CONTENT_TYPE_LATEST)
