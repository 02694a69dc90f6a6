"""What lookups are answered from: lookup tables with their rows, and predictors of whole spaces."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class SpaceModelRow(Base):
    """The predictor of a search's whole space, fitted on the pairs of all rounds; a new one has a new id."""

    __tablename__ = "space_models"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), unique=True)
    fitted_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    model: Mapped[bytes] = mapped_column(LargeBinary, comment="safetensors, read by app.domain.whole_space.model_bytes")
    report: Mapped[dict[str, Any]]


class LookupTableRow(Base):
    """The header of a published lookup table; its rows are in ``lookup_rows``."""

    __tablename__ = "lookup_tables"
    __table_args__ = (UniqueConstraint("search_id", "round_index"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"))
    round_index: Mapped[int] = mapped_column(Integer)
    published_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    num_rows: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(Text, comment="SHA-256 of the table's bytes")
    min_multi_adds: Mapped[int] = mapped_column(BigInteger)
    max_multi_adds: Mapped[int] = mapped_column(BigInteger)
    min_params: Mapped[int] = mapped_column(BigInteger)
    max_params: Mapped[int] = mapped_column(BigInteger)


class LookupRow(Base):
    """One architecture of a lookup table: its index in the round's subspace, prediction and costs.

    ``band`` counts the rows that beat this one on everything; NULL from 100 on. Any page of up to 100 rows under any
    limits comes from the band, which the partial covering index holds.
    """

    __tablename__ = "lookup_rows"
    __table_args__ = (
        Index(
            "lookup_rows_band",
            "table_id",
            text("predicted_accuracy desc"),
            "subspace_index",
            postgresql_include=["multi_adds", "params", "band"],
            postgresql_where=text("band is not null"),
        ),
    )

    # no foreign key: its per-row check would double the time of a load; whoever deletes a table deletes its rows
    table_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    subspace_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    predicted_accuracy: Mapped[float] = mapped_column(REAL)
    multi_adds: Mapped[int] = mapped_column(BigInteger)
    params: Mapped[int] = mapped_column(BigInteger)
    band: Mapped[int | None] = mapped_column(SmallInteger)
