"""Data sets: those there are, what they hold, and uploads of one's own."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, status
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.api.authentication import Reader, Submitter
from app.api.dependencies import AppSettings, Database, errors
from app.db.engine import transaction
from app.domain.names import DATA_SET_NAME_PATTERN
from app.errors import (
    ContentTooLargeError,
    DataSetExistsError,
    DataSetInUseError,
    DataSetNotFoundError,
    FieldError,
    InvalidRequestError,
    TooManyRequestsError,
)
from app.schemas.data_set import DataSetList, DataSetSamples, DataSetView, UploadView
from app.services import data_sets, uploads
from app.services.data_sets import Shown
from app.services.uploads import Incoming

router = APIRouter(prefix="/datasets", tags=["data sets"])

MAX_UPLOADS_AT_ONCE = 4
"""Of one process: each may fill the disk with an archive before anything of it is checked."""

_WRITE_BYTES = 2**20
_BODY = {
    "required": True,
    "description": "A zip archive: a folder of images per class (all of them in `train` if there is one), or "
    "`train*.parquet`, or one parquet or npz file; or an npz file itself.",
    # any type is taken; this one is what tools know how to send
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_at_once = asyncio.Semaphore(MAX_UPLOADS_AT_ONCE)

Name = Annotated[str, Path(pattern=DATA_SET_NAME_PATTERN, description="The data set.", examples=["digits"])]


@router.get("", summary="List data sets", responses=errors())
def list_data_sets(engine: Database, settings: AppSettings, caller: Reader) -> DataSetList:
    """Return the data sets that you may search on: built in, put there by the operator, and your uploads.

    Data sets of the Hugging Face hub need not be listed: name them as `hub:OWNER/NAME`.
    """
    with transaction(engine) as session:
        return data_sets.list_data_sets(session, caller, settings)


@router.get("/{name}", summary="Look into a data set", responses=errors(DataSetNotFoundError))
def read(
    name: Name,
    engine: Database,
    settings: AppSettings,
    caller: Reader,
    examine: Annotated[
        int | None,
        Query(ge=1, le=20_000, description="Decode so many images in full, evenly spread; by default as for a search."),
    ] = None,
) -> DataSetView:
    """Return classes, counts, sizes and kinds of images, and which of them cannot be read.

    Every image is looked at, as before a search is taken: its header and its end, where decoding all would take long.
    """
    with transaction(engine) as session:
        summary, root = data_sets.locate(session, caller, name, settings)
    return data_sets.view(summary, root, examine)


@router.get("/{name}/samples", summary="See a few images", responses=errors(DataSetNotFoundError))
def samples(
    name: Name,
    engine: Database,
    settings: AppSettings,
    caller: Reader,
    per_class: Annotated[int, Query(ge=1, le=8)] = 4,
    resolution: Annotated[int, Query(ge=8, le=128, description="Pixels.")] = 64,
    first_class: Annotated[int, Query(ge=0, le=1_000_000, description="Label of the first class.")] = 0,
    num_classes: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DataSetSamples:
    """Return a few images per class, cropped and resized as a search would; broken ones are left out."""
    with transaction(engine) as session:
        _, root = data_sets.locate(session, caller, name, settings)
    return data_sets.samples(name, root, Shown(per_class, resolution, first_class, num_classes))


@router.put(
    "/{name}",
    status_code=status.HTTP_201_CREATED,
    summary="Upload a data set",
    responses=errors(DataSetExistsError, ContentTooLargeError),
    openapi_extra={"requestBody": _BODY},
)
async def upload(
    name: Name, request: Request, engine: Database, settings: AppSettings, caller: Submitter
) -> UploadView:
    """Store a zip archive of images as a data set of your own; the body is the archive itself.

    It is checked before it is unpacked, and is there in full or not at all. Nobody else sees it.
    """
    if _at_once.locked():
        raise TooManyRequestsError(
            detail=f"{MAX_UPLOADS_AT_ONCE} uploads are under way; try again in a moment",
            limit=f"{MAX_UPLOADS_AT_ONCE} uploads at once",
            retry_after_s=10,
        )
    async with _at_once:
        incoming = await run_in_threadpool(uploads.begin, engine, caller, name, settings)
        try:
            await _receive(request, incoming)
            return await run_in_threadpool(uploads.finish, engine, caller, incoming, settings)
        finally:
            await run_in_threadpool(incoming.remove)


@router.delete(
    "/{name}",
    summary="Delete an upload",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=errors(DataSetNotFoundError, DataSetInUseError),
)
def delete(name: Name, engine: Database, settings: AppSettings, caller: Submitter) -> None:
    """Delete a data set that you have uploaded. Searches that are over keep what they have found."""
    with transaction(engine) as session:
        folder = uploads.delete(session, caller, name, settings)
    uploads.remove_folder(folder)


async def _receive(request: Request, incoming: Incoming) -> None:
    """Write the body to disk as it comes; the body limit ends it where it is too large."""
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) >= _WRITE_BYTES:
                await run_in_threadpool(uploads.append, incoming, bytes(held))
                held.clear()
    except ClientDisconnect:
        message = "the upload ended before the archive was complete; send it again"
        raise InvalidRequestError(detail=message, errors=[FieldError(loc=["body"], msg=message)]) from None
    await run_in_threadpool(uploads.append, incoming, bytes(held))
