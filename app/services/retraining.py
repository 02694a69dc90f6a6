"""Submits the retraining of an architecture: a job of its own, with one step, about a search that stays as it is."""

import uuid
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import searches
from app.db.models import SearchRow
from app.domain.data_sets import DataSetError, DataSetInfo, inspect_data_set, is_hub_data_set, root_of_upload
from app.domain.search_config import SearchConfig
from app.domain.standalone_recipe import Retraining, StandaloneRecipe, TrainingImages, from_recipe
from app.errors import FieldError, InvalidRequestError, SearchStateError
from app.schemas.retraining import RetrainingRequest
from app.services import submission
from app.services.callers import Caller
from app.services.field_errors import field_errors
from app.services.lifecycle import require_search
from app.services.quotas import Quotas
from app.services.search_view import check_code
from app.services.space_cache import SearchedSpace, searched_space
from app.services.submission import Submitted
from app.services.webhooks import WebhookPolicy


def submit(
    session: Session,
    search_id: uuid.UUID,
    code: str,
    request: RetrainingRequest,
    caller: Caller,
    *,
    idempotency_key: str | None,
    data_root: Path | None,
    upload_root: Path,
    quotas: Quotas,
    webhooks: WebhookPolicy,
) -> Submitted:
    """Check a request and store the job, in state ``queued``, with its step; it belongs to the search's owner.

    Raises:
        TooManyRequestsError: If that owner has as much open as one may have.
        SearchNotFoundError: If there is no search of that id.
        InvalidRequestError: If the code names no architecture of the search's space, or the recipe will not do.
        SearchStateError: If weights are wanted of a supernet that is not trained yet.
        IdempotencyConflictError: If the key was used before with another body.
    """
    search = require_search(session, search_id, caller, keep=True)
    asked = {"search_id": str(search_id), "code": code, **request.as_json()}
    if (earlier := submission.submitted_before(session, search.owner, idempotency_key, asked)) is not None:
        return earlier
    searched = searched_space(search.id, search.search_space, search.config)
    check_code(searched, code)
    retraining = _checked(search, searched, code, request, data_root, upload_root, webhooks)
    if retraining.from_supernet and not searches.supernet_is_trained(session, search_id):
        raise SearchStateError(
            detail=f"the supernet of search {search_id} is not trained yet, so there are no weights to begin with; "
            "wait for it, or train from scratch with from_supernet=false",
            state=search.state,
        )
    payload = {"search_id": str(search_id), "retraining": retraining.model_dump(mode="json")}
    return submission.store(
        session,
        {**job_values(search, "retraining"), "webhook_url": request.webhook_url},
        "train_standalone",
        payload,
        request=asked,
        idempotency_key=idempotency_key,
        quotas=quotas,
    )


def job_values(search: SearchRow, kind: str) -> dict[str, Any]:
    """Return the columns of a job about an architecture of a search."""
    return {
        "kind": kind,
        "origin_id": search.id,
        "owner": search.owner,
        "dataset": search.dataset,
        "upload_id": search.upload_id,
        "preset": search.preset,
        "search_space": search.search_space,
        "config": search.config,
        "num_rounds": 0,
    }


def _checked(
    search: SearchRow,
    searched: SearchedSpace,
    code: str,
    request: RetrainingRequest,
    data_root: Path | None,
    upload_root: Path,
    webhooks: WebhookPolicy,
) -> Retraining:
    """All of what is to be trained, checked against the search and its data; all that is wrong is said at once."""
    config = SearchConfig.model_validate(search.config)
    errors = webhooks.errors(request.webhook_url)
    recipe = None
    overrides = {"augmentation": config.augmentation, **request.overrides}
    try:
        recipe = from_recipe(request.recipe, overrides, from_supernet=request.from_supernet)
    except ValueError as error:
        errors += field_errors(error, "body")
    images = None
    try:
        root = data_root if search.upload_id is None else root_of_upload(upload_root, str(search.upload_id))
        info = None if is_hub_data_set(search.dataset) else inspect_data_set(search.dataset, root)
        images = _images(request, config, info)
        if recipe is not None:
            errors += _misfits(request, config, images, recipe, info)
    except DataSetError as error:
        errors += field_errors(error, "path", "search_id")
    if request.from_supernet:
        errors += _unfit_weights(request, images, searched)
    if errors:
        raise InvalidRequestError(detail="; ".join(error.msg for error in errors), errors=errors)
    assert recipe is not None
    return Retraining(
        code=code,
        recipe_name=request.recipe,
        network=request.network,
        from_supernet=request.from_supernet,
        seed=config.seed if request.seed is None else request.seed,
        recipe=recipe,
        images=images,
    )


def _images(request: RetrainingRequest, config: SearchConfig, info: DataSetInfo | None) -> TrainingImages | None:
    """The images that a request names; None where they are the search's.

    All classes are a number where it is known: what a network is exported with has to be known without the images.
    """
    of_search = TrainingImages.of(config)
    given = {name: getattr(request, name) for name in TrainingImages.model_fields}
    changes = {name: None if value == "all" else value for name, value in given.items() if value is not None}
    if request.num_classes == "all" and info is not None:
        changes["num_classes"] = info.num_classes
    images = of_search.model_copy(update=changes)
    return None if images == of_search else images


def _misfits(
    request: RetrainingRequest,
    config: SearchConfig,
    images: TrainingImages | None,
    recipe: StandaloneRecipe,
    info: DataSetInfo | None,
) -> list[FieldError]:
    """What is asked of the data set that it cannot give; of the hub's little is known before a worker reads them."""
    if info is None and request.num_classes == "all" and config.num_classes is not None:
        msg = "how many classes a data set of the hub has is not known before it is read; give their number"
        return [FieldError(loc=["body", "num_classes"], msg=msg)]
    if info is None:
        return []
    on = TrainingImages.of(config) if images is None else images
    return submission.misfits(config.model_copy(update={**on.model_dump(), "batch_size": recipe.batch_size}), info)


def _unfit_weights(
    request: RetrainingRequest, images: TrainingImages | None, searched: SearchedSpace
) -> list[FieldError]:
    """Why the supernet's weights are nothing to begin with."""
    reasons = []
    if images is not None:
        reasons.append(
            "the supernet has learned the search's classes, and from images that another split would judge by; give "
            "from_supernet=false, or leave out num_classes, num_images and validation_fraction"
        )
    if request.network == "target" and _is_smaller(searched):
        reasons.append(
            "the supernet was trained at the proxy's size, so its weights do not fit the target network; "
            "give network=proxy, or from_supernet=false"
        )
    return [FieldError(loc=["body", "from_supernet"], msg=reason) for reason in reasons]


def _is_smaller(searched: SearchedSpace) -> bool:
    """Whether the proxy is another network than the target, classes aside."""
    target, proxy = searched.space.proxy(num_classes=searched.proxy.num_classes), searched.proxy
    return target != proxy
