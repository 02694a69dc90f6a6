"""What callers bring besides searches: devices and data sets."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Integer, Text, func
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, one_of

DEVICE_ORIGINS = ("measured", "uploaded")


class DeviceRow(Base):
    """The latencies of one search space's choices on one device; new ones of the same device have a new id."""

    __tablename__ = "devices"
    __table_args__ = (
        one_of("origin", DEVICE_ORIGINS),
        Index("devices_once", "owner", "name", "layout_digest", unique=True, postgresql_nulls_not_distinct=True),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    owner: Mapped[str | None] = mapped_column(Text, comment="Whose it is; null: everybody's.")
    name: Mapped[str] = mapped_column(Text)
    layout_digest: Mapped[str] = mapped_column(Text, comment="Which networks it is of, see app.domain.latency.")
    search_space: Mapped[str] = mapped_column(Text, comment="The space's name when it was given.")
    latencies: Mapped[dict[str, Any]] = mapped_column(comment="base_ms and cells_ms")
    origin: Mapped[str] = mapped_column(Text)
    report: Mapped[dict[str, Any] | None] = mapped_column(comment="How it was measured, and how well latencies add up.")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class UploadRow(Base):
    """A data set that a caller has brought; its images lie below the upload root, in a folder named by the id."""

    __tablename__ = "uploads"
    __table_args__ = (Index("uploads_once", "owner", "name", unique=True, postgresql_nulls_not_distinct=True),)

    id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True, comment="Also the name of its folder.")
    owner: Mapped[str | None] = mapped_column(Text, comment="Whose it is; null: made without keys.")
    name: Mapped[str] = mapped_column(Text)
    num_bytes: Mapped[int] = mapped_column(BigInteger, comment="Size on disk, unpacked.")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
