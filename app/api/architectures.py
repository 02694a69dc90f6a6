"""Architectures of a search: what is known of one, its training by itself, and its network as a file."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response, status
from fastapi.responses import JSONResponse, StreamingResponse

from app import queue
from app.api.authentication import Reader, Submitter
from app.api.dependencies import AppSettings, Database, errors
from app.api.submissions import IdempotencyKey, answer_submitted, submission_responses
from app.db.engine import transaction
from app.domain.architecture_export import ExportFormat, WeightsSource
from app.errors import (
    ExportStoppedError,
    NotRetrainedError,
    SearchNotFoundError,
    SearchStateError,
)
from app.schemas.retraining import RetrainingRequest
from app.schemas.search import ArchitectureView, SearchView
from app.services import architecture_view, retraining, search_view
from app.services import export as export_service
from app.services.quotas import Quotas
from app.services.webhooks import WebhookPolicy

router = APIRouter(prefix="/search/{search_id}/architectures/{code}", tags=["architectures"])

Code = Annotated[str, Path(max_length=64, description="One digit per cell.", examples=["3333333333333333333"])]


@router.get("", summary="Read an architecture", responses=errors(SearchNotFoundError))
def read_architecture(search_id: uuid.UUID, code: Code, engine: Database, caller: Reader) -> ArchitectureView:
    """Return its costs, its pairs, what each round's table and the whole space say, and its stand-alone accuracies."""
    return architecture_view.read_architecture(engine, search_id, code, caller)


@router.post(
    "/retraining",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Train an architecture by itself",
    responses=submission_responses("job", SearchNotFoundError, SearchStateError),
)
def retrain(
    search_id: uuid.UUID,
    code: Code,
    request: RetrainingRequest,
    response: Response,
    engine: Database,
    settings: AppSettings,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> SearchView:
    """Queue a retraining, from scratch or from the supernet's weights.

    It is a job as a search is: follow it with `GET /search/{job_id}` or its events, cancel and resume it there. The
    accuracy it gives belongs to the search: `GET` of the architecture shows it beside the prediction.
    """
    with transaction(engine) as session:
        submitted = retraining.submit(
            session,
            search_id,
            code,
            request,
            caller,
            idempotency_key=idempotency_key,
            data_root=settings.data_root,
            upload_root=settings.uploads(),
            quotas=Quotas.of(settings),
            webhooks=WebhookPolicy.of(settings),
        )
    return answer_submitted(engine, caller, submitted, response)


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PYTHON = {
    "schema": {"type": "string"},
    "example": '"""nas-bench-macro 12212021."""\n\nimport torch\n\n\nclass Network(torch.nn.Module): ...\n',
}


@router.get(
    "/export",
    summary="Export an architecture's network",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {"application/octet-stream": _BINARY, "text/x-python": _PYTHON},
        },
        202: {
            "model": SearchView,
            "description": "The file is being made, by the job at `Location`; ask again when it has succeeded.",
            "headers": {
                "Location": {"schema": {"type": "string"}},
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."},
            },
        },
        **errors(SearchNotFoundError, NotRetrainedError, SearchStateError, ExportStoppedError),
    },
)
def export(
    search_id: uuid.UUID,
    code: Code,
    engine: Database,
    settings: AppSettings,
    caller: Reader,
    export_format: Annotated[
        ExportFormat,
        Query(
            alias="format",
            description="`onnx`, checked in onnxruntime, with a free batch dimension; `safetensors` with a JSON "
            "description in its header; `python`: a module of nothing but torch that loads the safetensors file.",
        ),
    ],
    weights: Annotated[
        WeightsSource,
        Query(description="The supernet's with BN statistics of the sub-network, or those of the latest retraining."),
    ] = "supernet",
) -> Response:
    """Return the network as a file. What needs a worker is made at the first request and kept: 202 until it is there.

    That first request needs a key with the scope `submit`, and counts as an open search of the search's owner.
    Networks take normalised images, (image - mean) / std with the description's values, and give logits.
    """
    if export_format == "python":
        with transaction(engine) as session:
            file_name, text = export_service.source(session, search_id, code, caller, weights)
        return Response(text, media_type="text/x-python", headers=_attachment(file_name))
    with transaction(engine) as session:
        exported = export_service.export(
            session,
            search_id,
            code,
            caller,
            export_format=export_format,
            weights=weights,
            artifact_url=settings.artifacts(),
            quotas=Quotas.of(settings),
        )
    if exported.artifact is not None:
        headers = {**_attachment(exported.file_name), "Content-Length": str(exported.artifact.num_bytes)}
        return StreamingResponse(exported.artifact.chunks(), media_type="application/octet-stream", headers=headers)
    queue.wake(exported.step_ids)
    with transaction(engine) as session:
        view = search_view.read_one(session, exported.job_id, caller)
    return JSONResponse(
        view.model_dump(mode="json"),
        status_code=status.HTTP_202_ACCEPTED,
        headers={"Location": f"/search/{exported.job_id}", "Retry-After": "1"},
    )


def _attachment(file_name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{file_name}"'}
