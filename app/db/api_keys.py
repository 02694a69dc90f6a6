"""API keys and the logins of browsers. Only hashes are stored; nothing here commits."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.db.models import ApiKeyRow, LoginSessionRow

_USE_RESOLUTION_S = 60


def _is_valid() -> ColumnElement[bool]:
    return and_(ApiKeyRow.revoked_at.is_(None), or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()))


def _seconds(seconds: float) -> Any:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def insert(session: Session, **values: Any) -> ApiKeyRow:
    """Insert a key and return it as it is stored."""
    row = ApiKeyRow(**values)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def all_keys(session: Session) -> Sequence[ApiKeyRow]:
    """Return all keys, also those that are no longer valid, oldest first."""
    return session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.id)).all()


def find_valid(session: Session, key_hash: str) -> ApiKeyRow | None:
    """Return the key of a hash if it is neither revoked nor expired."""
    return session.scalar(select(ApiKeyRow).where(ApiKeyRow.key_hash == key_hash, _is_valid()))


def is_valid(session: Session, key_id: uuid.UUID) -> bool:
    """Whether a key is neither revoked nor expired."""
    return session.scalar(select(ApiKeyRow.id).where(ApiKeyRow.id == key_id, _is_valid())) is not None


def note_use(session: Session, row: ApiKeyRow) -> None:
    """Note that a key was used, at most once a minute: reading must not become writing."""
    before = func.now() - _seconds(_USE_RESOLUTION_S)
    now = dt.datetime.now(dt.UTC)
    if row.last_used_at is None or (now - row.last_used_at).total_seconds() > _USE_RESOLUTION_S:
        session.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == row.id, func.coalesce(ApiKeyRow.last_used_at < before, True))
            .values(last_used_at=func.now())
            .execution_options(synchronize_session=False)
        )


def revoke(session: Session, key_ids: Sequence[uuid.UUID]) -> None:
    """Revoke keys and end their logins; a key that was revoked before keeps its date."""
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id.in_(key_ids), ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )
    session.execute(delete(LoginSessionRow).where(LoginSessionRow.key_id.in_(key_ids)))


def has_valid_admin(session: Session) -> bool:
    """Whether somebody could administer the service."""
    query = select(ApiKeyRow.id).where(_is_valid(), ApiKeyRow.scopes.contains(["admin"]))
    return session.scalar(query.limit(1)) is not None


def insert_login(session: Session, token_hash: str, key_id: uuid.UUID, duration_s: float) -> None:
    """Insert a login, and forget those that are over."""
    session.execute(delete(LoginSessionRow).where(LoginSessionRow.expires_at <= func.now()))
    session.add(LoginSessionRow(token_hash=token_hash, key_id=key_id, expires_at=func.now() + _seconds(duration_s)))
    session.flush()


def find_key_of_login(session: Session, token_hash: str) -> ApiKeyRow | None:
    """Return the key of a login; None if either is no longer valid."""
    query = (
        select(ApiKeyRow)
        .join(LoginSessionRow, LoginSessionRow.key_id == ApiKeyRow.id)
        .where(LoginSessionRow.token_hash == token_hash, LoginSessionRow.expires_at > func.now(), _is_valid())
    )
    return session.scalar(query)


def delete_login(session: Session, token_hash: str) -> None:
    """End a login."""
    session.execute(delete(LoginSessionRow).where(LoginSessionRow.token_hash == token_hash))
