"""Uploads of data sets: received into a folder of their own, checked, unpacked, and put in place by one rename.

A row stands for a folder that is there in full. What a crash leaves unfinished goes a day later.
"""

import contextlib
import errno
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import uploads as uploads_db
from app.db import usage as usage_db
from app.db.engine import transaction
from app.domain.data_set_preview import preview
from app.domain.data_sets import available, open_source
from app.domain.stratified_sampling import class_counts
from app.domain.upload_archive import ArchiveLimits, Unpacked, unpack_data_set
from app.errors import DataSetExistsError, DataSetInUseError, TooManyRequestsError, UnavailableError
from app.schemas.data_set import DataSetSummary, UploadView
from app.services import data_sets
from app.services.callers import Caller
from app.settings import Settings

MAX_EXPANSION = 4
"""How many times the largest archive its content may be; images are compressed already."""

_LEFT_BEHIND_S = 24 * 3600
_RETRY_STORED_S = 3600
_INCOMING = ".incoming-"


@dataclass(frozen=True)
class Incoming:
    """The folder of an upload under way.

    Attributes:
        upload_id: What it will be called.
        name: The data set.
        folder: Where it is put together.
    """

    upload_id: uuid.UUID
    name: str
    folder: Path

    @property
    def archive(self) -> Path:
        """Where the archive is received."""
        return self.folder / "archive"

    @property
    def content(self) -> Path:
        """Where it is unpacked."""
        return self.folder / "content"

    def remove(self) -> None:
        """Remove what is left of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def begin(engine: Engine, caller: Caller, name: str, settings: Settings) -> Incoming:
    """Make room for an upload, before anything of it is read.

    Raises:
        DataSetExistsError: If the name is taken.
        TooManyRequestsError: If the owner has uploaded as much as one may.
        UnavailableError: If nothing can be written.
    """
    with transaction(engine) as session:
        _check_name_is_free(session, caller, name, settings)
        _check_quota(session, caller, settings, 0)
    upload_id = uuid.uuid4()
    incoming = Incoming(upload_id, name, settings.uploads() / f"{_INCOMING}{upload_id}")
    with _disk():
        settings.uploads().mkdir(parents=True, exist_ok=True)
        _remove_left_behind(settings.uploads())
        incoming.content.mkdir(parents=True)
    return incoming


def append(incoming: Incoming, chunk: bytes) -> None:
    """Write a piece of the archive.

    Raises:
        UnavailableError: If it cannot be written.
    """
    with _disk(), incoming.archive.open("ab") as file:
        file.write(chunk)


def finish(engine: Engine, caller: Caller, incoming: Incoming, settings: Settings) -> UploadView:
    """Check and unpack what was received, and put it in place.

    Raises:
        InvalidRequestError: If the archive is damaged, holds what may not be, or is no data set.
        DataSetExistsError: If another upload of the name was faster.
        TooManyRequestsError: If the owner would have uploaded more than one may.
        UnavailableError: If nothing can be written.
    """
    limits = ArchiveLimits(max_unpacked_bytes=MAX_EXPANSION * settings.max_upload_bytes)
    with data_sets.as_request_error("body"), _disk():
        unpacked = unpack_data_set(incoming.archive, incoming.content, incoming.name, limits)
        source = open_source(incoming.name, incoming.content)
        class_counts(source.labels_N, source.class_names)
        found = preview(source)
    with transaction(engine) as session:
        row_summary = _place(session, caller, incoming, unpacked, settings)
    return UploadView(
        **data_sets.figures(row_summary, found), num_ignored=unpacked.num_ignored, ignored=list(unpacked.ignored)
    )


def delete(session: Session, caller: Caller, name: str, settings: Settings) -> Path:
    """Delete the caller's upload of a name.

    Returns:
        The folder to remove after the commit.

    Raises:
        DataSetNotFoundError: If the caller has none of that name.
        DataSetInUseError: If a search or job that is not over reads it.
    """
    row = uploads_db.find(session, caller.owner, name, lock=True)
    if row is None:
        raise data_sets.no_data_set(session, caller, name, settings)
    readers = [str(search_id) for search_id in uploads_db.open_readers(session, row.id)]
    if readers:
        raise DataSetInUseError(
            detail=f"search {readers[0]} reads the data set {name} and is not over; cancel it with "
            f"POST /search/{readers[0]}/cancel, or wait",
            search_ids=readers,
        )
    uploads_db.remove(session, row.id)
    return settings.uploads() / str(row.id)


def remove_folder(folder: Path) -> None:
    """Remove the folder of a deleted upload."""
    shutil.rmtree(folder, ignore_errors=True)


def _place(
    session: Session, caller: Caller, incoming: Incoming, unpacked: Unpacked, settings: Settings
) -> DataSetSummary:
    """Store the row and rename the folder; if the commit fails, the folder is without a row, and in nobody's way."""
    usage_db.lock_owner(session, caller.owner)
    _check_quota(session, caller, settings, unpacked.num_bytes)
    _check_name_is_free(session, caller, incoming.name, settings)
    stored = uploads_db.add(
        session, incoming.upload_id, owner=caller.owner, name=incoming.name, num_bytes=unpacked.num_bytes
    )
    assert stored, "an owner's uploads wait for each other"
    with _disk():
        incoming.content.rename(settings.uploads() / str(incoming.upload_id))
    row = uploads_db.find(session, caller.owner, incoming.name)
    assert row is not None
    return DataSetSummary(name=row.name, origin="upload", num_bytes=row.num_bytes, created_at=row.created_at)


def _check_name_is_free(session: Session, caller: Caller, name: str, settings: Settings) -> None:
    if uploads_db.find(session, caller.owner, name) is not None:
        raise DataSetExistsError(
            detail=f"you have uploaded a data set {name!r} already; delete it first with DELETE /datasets/{name}, or "
            "choose another name"
        )
    if name in data_sets.BUILT_IN or name in available(settings.data_root):
        raise DataSetExistsError(detail=f"the service has a data set {name!r} already; choose another name")


def _check_quota(session: Session, caller: Caller, settings: Settings, num_new_bytes: int) -> None:
    most = settings.max_upload_bytes_per_owner
    if most is None:
        return
    used = uploads_db.num_bytes(session, caller.owner)
    if used >= most or used + num_new_bytes > most:
        raise TooManyRequestsError(
            detail=f"your uploads take {used:,} bytes, this one would add {num_new_bytes:,}, and you may have "
            f"{most:,}; delete those that you no longer need with DELETE /datasets/NAME",
            limit=f"{most} bytes of uploads",
            retry_after_s=_RETRY_STORED_S,
        )


def _remove_left_behind(upload_root: Path) -> None:
    """Remove uploads that crashes have left unfinished: those that nobody has touched for a day.

    Nothing else: what has no row here may be another service's, on the same directory by mistake.
    """
    for folder in upload_root.glob(f"{_INCOMING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Say that the directory of uploads cannot be written to, or is full."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is full" if is_full else f"cannot be written to ({error.strerror or type(error).__name__})"
        raise UnavailableError(
            detail=f"the service's directory of uploads {what}; tell who runs it, or try again later",
            missing=["room for uploads" if is_full else "directory of uploads"],
        ) from error
