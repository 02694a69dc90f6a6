"""Submits a search: checks everything that can be checked before work starts, then stores it with its first step."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.db import searches
from app.db.models import SearchRow
from app.domain.data_sets import DataSetError, DataSetInfo, inspect_data_set, is_hub_data_set
from app.domain.rounds import max_table_rows
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import SearchSpace, preset
from app.errors import FieldError, IdempotencyConflictError, InvalidRequestError
from app.schemas.search_request import SearchRequest
from app.services.callers import Caller
from app.services.field_errors import field_errors
from app.services.quotas import Quotas


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


def submit(
    session: Session,
    request: SearchRequest,
    caller: Caller,
    *,
    idempotency_key: str | None,
    data_root: Path | None,
    quotas: Quotas,
) -> Submitted:
    """Check a request and store its search, in state ``queued``, with its first step.

    Raises:
        TooManyRequestsError: If the caller's owner has as much as one may have.
        InvalidRequestError: If the data set, the search space or the configuration will not do.
        IdempotencyConflictError: If the key was used before with another body.
    """
    if (earlier := _earlier(session, request, caller, idempotency_key)) is not None:
        return earlier
    space, config = _checked(request, data_root)
    num_rows = max_table_rows(space, config)
    quotas.lock(session, caller.owner)
    # whoever waited for the same request must get its search, not hear that the search is one too many
    if (earlier := _earlier(session, request, caller, idempotency_key)) is not None:
        return earlier
    quotas.check(session, caller.owner, num_new_rows=num_rows)
    inserted = searches.insert_search(
        session,
        {
            "owner": caller.owner,
            "dataset": request.dataset,
            "preset": request.preset,
            "search_space": space.model_dump(mode="json"),
            "config": config.model_dump(mode="json"),
            "num_rounds": config.num_rounds,
            "expected_rows": num_rows,
            "request": request.as_json(),
            "idempotency_key": idempotency_key,
        },
    )
    if inserted is None:
        # another request with the same key was faster
        earlier = _earlier(session, request, caller, idempotency_key)
        assert earlier is not None
        return earlier
    search_id, step_id = inserted
    return Submitted(search_id, is_new=True, step_ids=(step_id,))


def _earlier(session: Session, request: SearchRequest, caller: Caller, idempotency_key: str | None) -> Submitted | None:
    """The search that the caller's owner submitted with the key before, if any."""
    if idempotency_key is None:
        return None
    earlier = searches.find_by_idempotency_key(session, caller.owner, idempotency_key)
    return None if earlier is None else _same_again(earlier, request)


def _same_again(earlier: SearchRow, request: SearchRequest) -> Submitted:
    if earlier.request != request.as_json():
        raise IdempotencyConflictError(
            detail=f"this idempotency key belongs to search {earlier.id}, which was asked for with another body; "
            "send that body again to get that search, or a new key to start a new one",
            search_id=str(earlier.id),
        )
    return Submitted(earlier.id, is_new=False)


def _checked(request: SearchRequest, data_root: Path | None) -> tuple[SearchSpace, SearchConfig]:
    """The search space and the whole configuration of a request, checked against each other and the data.

    All that is wrong is reported at once where it can be.
    """
    errors: list[FieldError] = []
    space, config, info = None, None, None
    try:
        space = preset(request.search_space) if isinstance(request.search_space, str) else request.search_space
    except ValueError as error:
        errors += field_errors(error, "body", "search_space")
    try:
        config = from_preset(request.preset, request.overrides)
        if space is not None:
            config = config.resolved(space)
    except ValueError as error:
        errors += field_errors(error, "body")
    try:
        info = None if is_hub_data_set(request.dataset) else inspect_data_set(request.dataset, data_root)
    except DataSetError as error:
        errors += field_errors(error, "body", "dataset")
    if config is not None and info is not None:
        errors += _misfits(config, info)
    if errors:
        raise InvalidRequestError(detail="; ".join(error.msg for error in errors), errors=errors)
    assert space is not None
    assert config is not None
    if info is not None and config.num_classes is None:
        config = config.model_copy(update={"num_classes": info.num_classes})
    return space, config


def _misfits(config: SearchConfig, info: DataSetInfo) -> list[FieldError]:
    """What the configuration asks of the data set that it cannot give."""
    num_classes = config.num_classes or info.num_classes
    if num_classes > info.num_classes:
        return [
            FieldError(
                loc=["body", "num_classes"],
                msg=f"num_classes is {num_classes}, but {info.name} has {info.num_classes}; give 2 to that many",
            )
        ]
    errors = []
    # of a random class subset only the smallest possible number of images is known beforehand
    smallest = sum(sorted(info.class_counts)[:num_classes])
    num_images = min(smallest, config.num_images or smallest)
    if config.num_images is not None and config.num_images < 2 * num_classes:
        errors.append(
            FieldError(
                loc=["body", "num_images"],
                msg=f"{num_classes} classes need num_images of at least {2 * num_classes}, to train and validate; "
                f"{config.num_images} is too few",
            )
        )
    num_train = num_images - max(num_classes, round(config.validation_fraction * num_images))
    if config.batch_size > max(num_train, 1):
        errors.append(
            FieldError(
                loc=["body", "batch_size"],
                msg=f"batch_size is {config.batch_size}, but some {max(num_train, 0)} images are left to train on; "
                "give a smaller batch_size or more images",
            )
        )
    return errors
