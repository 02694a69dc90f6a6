"""Hands out an architecture's network as a file: made by a worker at the first request, kept, and streamed later on.

The same export is one job: its key names the search, the architecture, the format and the weights.
"""

import uuid
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db import searches, standalone
from app.db.models import SearchRow
from app.domain.architecture_export import SUFFIXES, Export, ExportFormat, WeightsSource, artifact_name
from app.domain.model_source import model_source
from app.domain.standalone_recipe import Retraining
from app.errors import ExportStoppedError, NotRetrainedError, SearchStateError
from app.services import artifacts, submission
from app.services.artifacts import Artifact
from app.services.callers import Caller
from app.services.lifecycle import require_search
from app.services.quotas import Quotas
from app.services.retraining import job_values
from app.services.search_view import check_code
from app.services.space_cache import SearchedSpace, searched_space


@dataclass(frozen=True)
class Exported:
    """An export, finished or under way.

    Attributes:
        file_name: What the file is called.
        job_id: The job that makes it.
        artifact: The file; None while it is being made.
        step_ids: Steps to wake after the commit.
    """

    file_name: str
    job_id: uuid.UUID
    artifact: Artifact | None
    step_ids: tuple[int, ...] = ()


def export(
    session: Session,
    search_id: uuid.UUID,
    code: str,
    caller: Caller,
    *,
    export_format: ExportFormat,
    weights: WeightsSource,
    artifact_url: str,
    quotas: Quotas,
) -> Exported:
    """Return the file of an export, or the job that makes it, which is submitted if need be.

    Whoever may only read gets files that are there or under way; the job belongs to the search's owner.

    Raises:
        ForbiddenError: If a job would have to be submitted, and the caller may not.
        TooManyRequestsError: If one would, and the owner has as much open as one may have.
        SearchNotFoundError: If there is no search of that id.
        InvalidRequestError: If the code names no architecture of its space.
        SearchStateError: If the supernet's weights are wanted, and it is not trained yet.
        NotRetrainedError: If the weights of a retraining are wanted, and none has finished.
        ExportStoppedError: If the job has failed or was cancelled.
    """
    search, searched = _searched(session, search_id, code, caller, keep=True)
    wanted = _wanted(session, search, code, export_format, weights)
    # no client can send a key with spaces
    key = f"export {search_id} {code} {export_format} {wanted.job_id or 'supernet'}"
    job = searches.find_by_idempotency_key(session, search.owner, key)
    if job is not None and job.state == "succeeded":
        artifact = artifacts.find(artifact_url, str(job.id), artifact_name(export_format))
        if artifact is not None:
            return Exported(_file_name(searched, code, export_format), job.id, artifact)
        caller.check_may("submit")
        # whoever cleans up the artifacts shall not have to know of the database
        job.idempotency_key = None
        session.flush()
        job = None
    if job is not None and job.state in ("failed", "cancelling", "cancelled"):
        reason = f": {job.error}" if job.error else ""
        raise ExportStoppedError(
            detail=f"the export {job.id} is {job.state}{reason}; resume it with POST /search/{job.id}/resume",
            job_id=str(job.id),
            state=job.state,
        )
    if job is not None:
        return Exported(_file_name(searched, code, export_format), job.id, None)
    caller.check_may("submit")
    payload = {"search_id": str(search_id), "export": wanted.model_dump(mode="json")}
    submitted = submission.store(
        session,
        job_values(search, "export"),
        "export",
        payload,
        request={"search_id": str(search_id), **payload["export"]},  # type: ignore[dict-item]
        idempotency_key=key,
        quotas=quotas,
    )
    return Exported(_file_name(searched, code, export_format), submitted.search_id, None, submitted.step_ids)


def source(
    session: Session, search_id: uuid.UUID, code: str, caller: Caller, weights: WeightsSource
) -> tuple[str, str]:
    """Return the name and the text of a Python module with the network of an architecture, for the given weights.

    Raises:
        SearchNotFoundError, InvalidRequestError, NotRetrainedError: As for :func:`export`.
    """
    search, searched = _searched(session, search_id, code, caller)
    retraining = _latest_retraining(session, search, code)[1] if weights == "retrained" else None
    space = searched.proxy if retraining is None else retraining.space_of(searched.space, searched.proxy)
    return _file_name(searched, code, "python"), model_source(space, space.parse_code(code))


def _searched(
    session: Session, search_id: uuid.UUID, code: str, caller: Caller, *, keep: bool = False
) -> tuple[SearchRow, SearchedSpace]:
    search = require_search(session, search_id, caller, keep=keep)
    searched = searched_space(search.id, search.search_space, search.config)
    check_code(searched, code)
    return search, searched


def _wanted(
    session: Session, search: SearchRow, code: str, export_format: ExportFormat, weights: WeightsSource
) -> Export:
    job_id, retraining = _latest_retraining(session, search, code) if weights == "retrained" else (None, None)
    if weights == "supernet" and not searches.supernet_is_trained(session, search.id):
        raise SearchStateError(
            detail=f"the supernet of search {search.id} is not trained yet, so there are no weights to export; wait "
            "for it, or export those of a retraining with weights=retrained",
            state=search.state,
        )
    return Export.model_validate(
        {"code": code, "format": export_format, "weights": weights, "job_id": job_id, "retraining": retraining}
    )


def _latest_retraining(session: Session, search: SearchRow, code: str) -> tuple[str, Retraining]:
    found = standalone.of_architecture(session, search.id, code)
    if not found:
        raise NotRetrainedError(
            detail=f"no retraining of {code} has finished; start one with POST "
            f"/search/{search.id}/architectures/{code}/retraining, or export with weights=supernet"
        )
    # where its weights lie: the job, or a folder of the search that trained it as a step of its own
    return found[0].artifact.rsplit("/", 1)[0], Retraining.model_validate(found[0].retraining)


def _file_name(searched: SearchedSpace, code: str, export_format: ExportFormat) -> str:
    return f"{searched.space.name}-{code}{SUFFIXES[export_format]}"
