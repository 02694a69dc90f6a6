"""Uploads: data sets by owner and name, and who reads them. Nothing here commits."""

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import SearchRow, UploadRow
from app.db.usage import OPEN_STATES


def find(session: Session, owner: str | None, name: str, *, keep: bool = False, lock: bool = False) -> UploadRow | None:
    """Return an owner's upload of a name.

    Args:
        session: The database.
        owner: Whose it is.
        name: The data set.
        keep: Whether it must not be deleted before the transaction ends.
        lock: Whether nobody else may ask for that before the transaction ends.
    """
    query = select(UploadRow).where(UploadRow.owner.is_not_distinct_from(owner), UploadRow.name == name)
    if lock or keep:
        query = query.with_for_update(read=not lock)
    return session.scalars(query).one_or_none()


def list_of(session: Session, owner: str | None) -> Sequence[UploadRow]:
    """Return an owner's uploads by name."""
    query = select(UploadRow).where(UploadRow.owner.is_not_distinct_from(owner))
    return session.scalars(query.order_by(UploadRow.name)).all()


def ids(session: Session) -> set[str]:
    """Return the ids of all uploads."""
    return {str(upload_id) for upload_id in session.scalars(select(UploadRow.id))}


def num_bytes(session: Session, owner: str | None) -> int:
    """Return the size of all that an owner has uploaded."""
    query = select(func.coalesce(func.sum(UploadRow.num_bytes), 0))
    return int(session.scalars(query.where(UploadRow.owner.is_not_distinct_from(owner))).one())


def add(session: Session, upload_id: uuid.UUID, *, owner: str | None, name: str, num_bytes: int) -> bool:
    """Store an upload; False, and nothing is stored, if the owner has one of that name."""
    values = {"id": upload_id, "owner": owner, "name": name, "num_bytes": num_bytes}
    query = insert(UploadRow).values(**values).on_conflict_do_nothing(index_elements=["owner", "name"])
    return session.scalars(query.returning(UploadRow.id)).one_or_none() is not None


def remove(session: Session, upload_id: uuid.UUID) -> None:
    """Delete an upload."""
    session.execute(delete(UploadRow).where(UploadRow.id == upload_id))


def open_readers(session: Session, upload_id: uuid.UUID) -> Sequence[uuid.UUID]:
    """Return the searches and jobs that read an upload and are not over."""
    query = select(SearchRow.id).where(SearchRow.upload_id == upload_id, SearchRow.state.in_(OPEN_STATES))
    return session.scalars(query.order_by(SearchRow.created_at)).all()
