"""API keys, and the logins of browsers that came with one."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Integer, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base

SCOPES = ("read", "submit", "admin")


class ApiKeyRow(Base):
    """A key of an owner. Only its hash is stored; of 256 random bits a plain SHA-256 cannot be undone."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"scopes <@ array[{', '.join(map(repr, SCOPES))}]", name="scopes_known"),
        CheckConstraint("cardinality(scopes) > 0", name="scopes_some"),
        CheckConstraint("owner <> ''", name="owner_named"),
    )

    id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text, index=True)
    key_hash: Mapped[str] = mapped_column(Text, unique=True, comment="SHA-256, in hexadecimal")
    prefix: Mapped[str] = mapped_column(Text, comment="The key's first letters, to tell keys apart.")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    rate_limit_per_minute: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None] = mapped_column(comment="To the minute.")


class LoginSessionRow(Base):
    """A browser that has logged in with a key: good as long as both the session and its key are."""

    __tablename__ = "login_sessions"

    token_hash: Mapped[str] = mapped_column(Text, primary_key=True, comment="SHA-256 of the cookie, in hexadecimal")
    key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime] = mapped_column(index=True)
