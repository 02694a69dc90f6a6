"""Architectures of a search: what is known of one, and its training by itself."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from app import queue
from app.api.dependencies import AppSettings, Database, errors
from app.api.search import IdempotencyKey
from app.db.engine import transaction
from app.errors import ContentTooLargeError, IdempotencyConflictError, SearchNotFoundError, SearchStateError
from app.schemas.retraining import RetrainingRequest
from app.schemas.search import ArchitectureView, SearchView
from app.services import retraining, search_view

router = APIRouter(prefix="/search/{search_id}/architectures/{code}", tags=["architectures"])

Code = Annotated[str, Path(max_length=64, description="One digit per cell.", examples=["3333333333333333333"])]


@router.get("", summary="Read an architecture", responses=errors(SearchNotFoundError))
def read_architecture(search_id: uuid.UUID, code: Code, engine: Database) -> ArchitectureView:
    """Return an architecture's costs, its pairs, each round's prediction, and its stand-alone accuracies."""
    with transaction(engine) as session:
        return search_view.read_architecture(session, search_id, code)


@router.post(
    "/retraining",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Train an architecture by itself",
    responses={
        200: {"model": SearchView, "description": "This idempotency key gave this job before."},
        202: {"headers": {"Location": {"schema": {"type": "string"}, "description": "Where the job can be read."}}},
        **errors(SearchNotFoundError, SearchStateError, IdempotencyConflictError, ContentTooLargeError),
    },
)
def retrain(
    search_id: uuid.UUID,
    code: Code,
    request: RetrainingRequest,
    response: Response,
    engine: Database,
    settings: AppSettings,
    idempotency_key: IdempotencyKey = None,
) -> SearchView:
    """Queue a retraining, from scratch or from the supernet's weights.

    It is a job as a search is: follow it with `GET /search/{job_id}` or its events, cancel and resume it there. The
    accuracy it gives belongs to the search: `GET` of the architecture shows it beside the prediction.
    """
    with transaction(engine) as session:
        submitted = retraining.submit(
            session, search_id, code, request, idempotency_key=idempotency_key, data_root=settings.data_root
        )
    queue.wake(submitted.step_ids)
    if not submitted.is_new:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/search/{submitted.search_id}"
    with transaction(engine) as session:
        return search_view.read_one(session, submitted.search_id)
