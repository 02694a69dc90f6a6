"""API keys: made, checked, revoked; and the logins of browsers that came with one.

A key is ``nas_`` and 256 random bits. It is shown once; the database holds its SHA-256, which no dictionary can undo
for that many random bits, and which costs a request nothing. A login's cookie is another such secret of its own.
"""

import datetime as dt
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.db import api_keys as keys_db
from app.db.models import ApiKeyRow
from app.services.callers import Caller, Scope, with_implied

PREFIX = "nas_"
_NUM_SECRET_BYTES = 32
_NUM_SHOWN = 12
_MAX_LENGTH = 200
"""No key is longer; nobody makes us hash a megabyte."""


class NoSuchKeyError(ValueError):
    """A key that is named does not exist, or its name is not the only one of its kind."""


@dataclass(frozen=True)
class NewKey:
    """A key that was just made.

    Attributes:
        row: As it is stored.
        secret: The key itself; this is the only time that anybody has it.
    """

    row: ApiKeyRow
    secret: str

    def __repr__(self) -> str:
        return f"NewKey({self.row.prefix}...)"


def create(
    session: Session,
    *,
    name: str,
    owner: str,
    scopes: Iterable[Scope],
    expires_at: dt.datetime | None = None,
    rate_limit_per_minute: int | None = None,
) -> NewKey:
    """Make a key.

    Raises:
        ValueError: If name or owner is empty.
    """
    if not name.strip() or not owner.strip():
        raise ValueError("a key needs a name and an owner; give both some letters")
    secret = PREFIX + secrets.token_urlsafe(_NUM_SECRET_BYTES)
    row = keys_db.insert(
        session,
        name=name,
        owner=owner,
        key_hash=_hash(secret),
        prefix=secret[:_NUM_SHOWN],
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
        rate_limit_per_minute=rate_limit_per_minute,
    )
    return NewKey(row, secret)


def caller_of_key(session: Session, secret: str) -> Caller | None:
    """Return whose a key is, and note its use; None if it is no valid key."""
    if not secret.startswith(PREFIX) or len(secret) > _MAX_LENGTH:
        return None
    digest = _hash(secret)
    row = keys_db.find_valid(session, digest)
    # the index is asked for a hash that no caller can choose; comparing it once more leaves no doubt about the timing
    if row is None or not secrets.compare_digest(row.key_hash, digest):
        return None
    keys_db.note_use(session, row)
    return _caller(row)


def log_in(session: Session, secret: str, *, duration_s: float) -> str | None:
    """Return the secret of a new login for the cookie of a browser; None if it came with no valid key."""
    caller = caller_of_key(session, secret)
    if caller is None:
        return None
    assert caller.key_id is not None
    token = secrets.token_urlsafe(_NUM_SECRET_BYTES)
    keys_db.insert_login(session, _hash(token), caller.key_id, duration_s)
    return token


def caller_of_login(session: Session, token: str) -> Caller | None:
    """Return whose a login is; None if it, or its key, is no longer valid."""
    if len(token) > _MAX_LENGTH:
        return None
    row = keys_db.find_key_of_login(session, _hash(token))
    if row is None:
        return None
    keys_db.note_use(session, row)
    return _caller(row)


def log_out(session: Session, token: str) -> None:
    """End a login."""
    keys_db.delete_login(session, _hash(token))


def revoke(session: Session, given: str) -> ApiKeyRow:
    """Revoke a key by its id, its prefix or its name, and end its logins.

    Raises:
        NoSuchKeyError: If there is none, or several are meant.
    """
    keys = keys_db.all_keys(session)
    found = [key for key in keys if given in (str(key.id), key.prefix)]
    found = found or [key for key in keys if key.name == given and key.revoked_at is None]
    if not found:
        raise NoSuchKeyError(f"there is no valid key {given!r}; nasatlas keys list shows ids, prefixes and names")
    if len(found) > 1:
        prefixes = ", ".join(key.prefix for key in found)
        raise NoSuchKeyError(f"several keys are named {given!r}; give the prefix of one: {prefixes}")
    keys_db.revoke(session, [found[0].id])
    session.refresh(found[0])
    return found[0]


@dataclass(frozen=True)
class DescribedKey:
    """What may be said of a key.

    Attributes:
        row: As it is stored.
        state: ``valid``, ``expired`` or ``revoked``.
    """

    row: ApiKeyRow
    state: Literal["valid", "expired", "revoked"]


def list_all(session: Session) -> list[DescribedKey]:
    """Return all keys, also those that are no longer valid, oldest first."""
    return [DescribedKey(row, state_of(row)) for row in keys_db.all_keys(session)]


def key_of(session: Session, caller: Caller) -> DescribedKey | None:
    """Return the key that a caller came with; None where the service needs no keys."""
    row = None if caller.key_id is None else session.get(ApiKeyRow, caller.key_id)
    return None if row is None else DescribedKey(row, state_of(row))


def state_of(row: ApiKeyRow) -> Literal["valid", "expired", "revoked"]:
    """Return whether a key is still good for anything."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= dt.datetime.now(dt.UTC) else "valid"


def still_valid(session: Session, caller: Caller) -> bool:
    """Whether a caller may go on, for answers that last."""
    return caller.key_id is None or keys_db.is_valid(session, caller.key_id)


def _caller(row: ApiKeyRow) -> Caller:
    return Caller(row.owner, with_implied(row.scopes), row.id, row.rate_limit_per_minute)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogatepass")).hexdigest()
