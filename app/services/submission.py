"""Submits a search: checks everything that can be checked before work starts, then stores it with its first step."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import searches
from app.db import uploads as uploads_db
from app.db.engine import transaction
from app.db.models import SearchRow
from app.domain.data_sets import DataSetError, DataSetInfo, inspect_data_set, is_hub_data_set, root_of_upload
from app.domain.rounds import max_table_rows
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import SearchSpace, preset
from app.domain.stratified_sampling import chosen_classes
from app.errors import DeviceNotFoundError, FieldError, IdempotencyConflictError, InvalidRequestError
from app.schemas.search_request import SearchRequest
from app.services import device_latencies
from app.services.callers import Caller
from app.services.field_errors import field_errors
from app.services.quotas import Quotas
from app.services.webhooks import WebhookPolicy


@dataclass(frozen=True)
class Submitted:
    """A stored search.

    Attributes:
        search_id: Its id.
        is_new: False where the idempotency key was used before with the same body.
        step_ids: Steps to wake after the commit.
    """

    search_id: uuid.UUID
    is_new: bool
    step_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class InspectedData:
    """What was found in the data set of a request.

    Attributes:
        upload_id: The caller's upload that bore the name, if one did.
        info: What it holds; None for a hub data set, which only workers read, and where there is an error.
        error: Why it carries no search.
    """

    upload_id: uuid.UUID | None
    info: DataSetInfo | None = None
    error: DataSetError | None = None


def inspect_data(
    engine: Engine,
    request: SearchRequest,
    caller: Caller,
    *,
    idempotency_key: str | None,
    data_root: Path | None,
    upload_root: Path,
) -> InspectedData | None:
    """Look at the images of a request: for seconds, during which no connection to the database should be held.

    Returns:
        What was found, or None where the request was answered before.

    Raises:
        IdempotencyConflictError: If the key was used before with another body.
    """
    with transaction(engine) as session:
        if submitted_before(session, caller.owner, idempotency_key, request.as_json()) is not None:
            return None
        upload = uploads_db.find(session, caller.owner, request.dataset)
    return _inspected(request.dataset, None if upload is None else upload.id, data_root, upload_root)


def submit(
    session: Session,
    request: SearchRequest,
    caller: Caller,
    *,
    data: InspectedData | None,
    idempotency_key: str | None,
    data_root: Path | None,
    upload_root: Path,
    quotas: Quotas,
    webhooks: WebhookPolicy,
) -> Submitted:
    """Check a request and store its search, in state ``queued``, with its first step.

    Args:
        session: The database.
        request: What is asked for.
        caller: Who asks.
        data: What :func:`inspect_data` has found; looked at now if that was another data set, or nothing.
        idempotency_key: The caller's name for the request.
        data_root: The folder of the operator's data sets.
        upload_root: The folder of the uploads.
        quotas: What an owner may have.
        webhooks: Which addresses may be called.

    Raises:
        TooManyRequestsError: If the caller's owner has as much as one may have.
        InvalidRequestError: If the data set, the search space, the configuration or the webhook will not do.
        IdempotencyConflictError: If the key was used before with another body.
    """
    asked = request.as_json()
    if (earlier := submitted_before(session, caller.owner, idempotency_key, asked)) is not None:
        return earlier
    upload = uploads_db.find(session, caller.owner, request.dataset, keep=True)
    upload_id = None if upload is None else upload.id
    if data is None or data.upload_id != upload_id:
        # uploaded or deleted in between
        data = _inspected(request.dataset, upload_id, data_root, upload_root)
    space, config = _checked(session, caller, request, data, webhooks)
    values = {
        "owner": caller.owner,
        "dataset": request.dataset,
        "upload_id": upload_id,
        "preset": request.preset,
        "search_space": space.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "num_rounds": config.num_rounds,
        "expected_rows": max_table_rows(space, config),
        "webhook_url": request.webhook_url,
    }
    return store(session, values, "train_supernet", {}, request=asked, idempotency_key=idempotency_key, quotas=quotas)


def _inspected(name: str, upload_id: uuid.UUID | None, data_root: Path | None, upload_root: Path) -> InspectedData:
    try:
        root = data_root if upload_id is None else root_of_upload(upload_root, str(upload_id))
        return InspectedData(upload_id, None if is_hub_data_set(name) else inspect_data_set(name, root))
    except DataSetError as error:
        return InspectedData(upload_id, error=error)


def submitted_before(
    session: Session, owner: str | None, idempotency_key: str | None, request: dict[str, Any]
) -> Submitted | None:
    """Return what an owner's idempotency key gave before, if anything.

    Raises:
        IdempotencyConflictError: If that was another request.
    """
    if idempotency_key is None:
        return None
    earlier = searches.find_by_idempotency_key(session, owner, idempotency_key)
    return None if earlier is None else _same_again(earlier, request)


def store(
    session: Session,
    values: dict[str, Any],
    step_kind: str,
    payload: dict[str, Any],
    *,
    request: dict[str, Any],
    idempotency_key: str | None,
    quotas: Quotas,
) -> Submitted:
    """Store a search or a job with its first step, unless another request with the same key was faster.

    Raises:
        TooManyRequestsError: If the owner has as much as one may have.
        IdempotencyConflictError: If the key was used before with another body.
    """
    owner = values["owner"]
    quotas.lock(session, owner)
    # whoever waited for the same request must get its search, not hear that the search is one too many
    if (earlier := submitted_before(session, owner, idempotency_key, request)) is not None:
        return earlier
    quotas.check(session, owner, num_new_rows=values.get("expected_rows", 0))
    row = {**values, "request": request, "idempotency_key": idempotency_key}
    inserted = searches.insert_search(session, row, step_kind, payload)
    if inserted is None:
        # another request with the same key was faster
        earlier = submitted_before(session, owner, idempotency_key, request)
        assert earlier is not None
        return earlier
    search_id, step_id = inserted
    return Submitted(search_id, is_new=True, step_ids=(step_id,))


def _same_again(earlier: SearchRow, request: dict[str, Any]) -> Submitted:
    if earlier.request != request:
        raise IdempotencyConflictError(
            detail=f"this idempotency key belongs to search {earlier.id}, which was asked for with another body; "
            "send that body again to get that search, or a new key to start a new one",
            search_id=str(earlier.id),
        )
    return Submitted(earlier.id, is_new=False)


def _checked(
    session: Session, caller: Caller, request: SearchRequest, data: InspectedData, webhooks: WebhookPolicy
) -> tuple[SearchSpace, SearchConfig]:
    """The search space and the whole configuration of a request, checked against each other and the data.

    All that is wrong is reported at once where it can be.
    """
    errors = webhooks.errors(request.webhook_url)
    space, info = None, data.info
    try:
        space = preset(request.search_space) if isinstance(request.search_space, str) else request.search_space
    except ValueError as error:
        errors += field_errors(error, "body", "search_space")
    config, wrong = _configured(session, caller, request, space)
    errors += wrong
    if data.error is not None:
        errors += field_errors(data.error, "body", "dataset")
    if config is not None and info is not None:
        errors += misfits(config, info)
    if errors:
        raise InvalidRequestError(detail="; ".join(error.msg for error in errors), errors=errors)
    assert space is not None
    assert config is not None
    if info is not None and config.num_classes is None:
        config = config.model_copy(update={"num_classes": info.num_classes})
    return space, config


def _configured(
    session: Session, caller: Caller, request: SearchRequest, space: SearchSpace | None
) -> tuple[SearchConfig | None, list[FieldError]]:
    """The configuration as far as it is known, and what is wrong with it.

    Latencies of devices are part of it as they are now: the search's results depend on them.
    """
    config: SearchConfig | None = None
    errors: list[FieldError] = []
    try:
        config = from_preset(request.preset, request.overrides)
        if space is not None:
            config, errors = _with_latencies(session, caller, config, space)
            config = config.resolved(space)
    except ValueError as error:
        errors += field_errors(error, "body")
    return config, errors


def _with_latencies(
    session: Session, caller: Caller, config: SearchConfig, space: SearchSpace
) -> tuple[SearchConfig, list[FieldError]]:
    """The configuration with the latencies of registered devices, and without devices that are unknown."""
    limits, tables, errors = dict(config.target_latency_ms), dict(config.device_latencies), []
    for name in sorted(limits.keys() - tables.keys()):
        try:
            tables[name] = device_latencies.table_on(session, caller, name, space)
        except DeviceNotFoundError as error:
            del limits[name]
            errors.append(FieldError(loc=["body", "target_latency_ms", name], msg=error.detail))
    return config.model_copy(update={"target_latency_ms": limits, "device_latencies": tables}), errors


def num_train_images(config: SearchConfig, info: DataSetInfo) -> int:
    """Return how many images of a data set are left to train on."""
    # the seed is in the request, and it decides which classes a worker will take
    classes = chosen_classes(info.num_classes, config.num_classes, config.seed)
    num_in_classes = sum(info.class_counts[label] for label in classes.tolist())
    num_images = min(num_in_classes, config.num_images or num_in_classes)
    num_held_out = max(len(classes), round(config.validation_fraction * num_images))
    return int(num_images - num_held_out)


def misfits(config: SearchConfig, info: DataSetInfo) -> list[FieldError]:
    """Return what a configuration asks of the data set that it cannot give."""
    num_classes = config.num_classes or info.num_classes
    if num_classes > info.num_classes:
        return [
            FieldError(
                loc=["body", "num_classes"],
                msg=f"num_classes is {num_classes}, but {info.name} has {info.num_classes}; give 2 to that many",
            )
        ]
    errors = []
    if config.num_images is not None and config.num_images < 2 * num_classes:
        errors.append(
            FieldError(
                loc=["body", "num_images"],
                msg=f"{num_classes} classes need num_images of at least {2 * num_classes}, to train and validate; "
                f"{config.num_images} is too few",
            )
        )
    return errors + batch_misfits(config.batch_size, num_train_images(config, info))


def batch_misfits(batch_size: int, num_train: int) -> list[FieldError]:
    """What is wrong with a batch size, given some number of images to train on."""
    if batch_size <= max(num_train, 1):
        return []
    return [
        FieldError(
            loc=["body", "batch_size"],
            msg=f"batch_size is {batch_size}, but some {max(num_train, 0)} images are left to train on; "
            "give a smaller batch_size or more images",
        )
    ]
