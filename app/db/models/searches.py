"""Searches and jobs, their rounds, steps and pairs, and what is left of deleted ones."""

import datetime as dt
import uuid
from typing import Any, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, one_of
from app.domain.steps import PairSource, StepKind

SEARCH_STATES = ("queued", "running", "cancelling", "cancelled", "failed", "succeeded")
JOB_KINDS = ("search", "retraining", "export", "measurement")
STEP_KINDS = get_args(StepKind)
STEP_STATES = ("ready", "leased", "done", "failed")
PAIR_SOURCES = get_args(PairSource)


class SearchRow(Base):
    """One search, or a job about one's architecture or a device: what was asked, where it stands, what it found.

    A job has steps, leases and states as a search has; it holds a copy of its search's space and configuration.
    """

    __tablename__ = "searches"
    __table_args__ = (
        one_of("state", SEARCH_STATES),
        CheckConstraint(f"kind in ({', '.join(map(repr, JOB_KINDS))})", name="job_kind_known"),
        CheckConstraint("(kind in ('search', 'measurement')) = (origin_id is null)", name="jobs_have_an_origin"),
        Index("searches_by_age", "created_at", "id"),
        Index("searches_by_owner", "owner", "created_at", "id"),
        Index(
            "searches_idempotent",
            "owner",
            "idempotency_key",
            unique=True,
            # searches made without keys have no owner, and must not be made twice either
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    kind: Mapped[str] = mapped_column(Text, server_default="search")
    origin_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("searches.id", ondelete="CASCADE"), index=True, comment="The search that a job is about."
    )
    owner: Mapped[str | None] = mapped_column(Text, comment="Whose it is; null: made without keys.")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    state: Mapped[str] = mapped_column(Text, server_default="queued")
    error: Mapped[str | None] = mapped_column(Text)
    dataset: Mapped[str] = mapped_column(Text)
    upload_id: Mapped[uuid.UUID | None] = mapped_column(
        UUID(as_uuid=True), comment="The upload that its data set is, be it deleted since; null: one of the operator's."
    )
    preset: Mapped[str] = mapped_column(Text)
    search_space: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any]]
    num_rounds: Mapped[int] = mapped_column(Integer)
    request: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    final_code: Mapped[str | None] = mapped_column(Text)
    final_accuracy: Mapped[float | None] = mapped_column(Float)
    expected_rows: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="Rows that its lookup tables will have at most."
    )
    artifact_bytes: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="Size of its checkpoints when they were last measured."
    )
    artifacts_measured_at: Mapped[dt.datetime | None]
    last_claimed_at: Mapped[dt.datetime | None] = mapped_column(
        comment="When a worker last took a step of it; owners take turns by it."
    )
    request_id: Mapped[str | None] = mapped_column(Text, comment="The request that submitted or resumed it last.")
    webhook_url: Mapped[str | None] = mapped_column(Text, comment="Who is told when it ends.")


class RoundRow(Base):
    """Round t of a search: its subspace, its table and what it preserved."""

    __tablename__ = "rounds"

    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    round_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]
    subspace: Mapped[dict[str, Any]]
    held_out_tau: Mapped[float | None] = mapped_column(Float)
    fit_report: Mapped[dict[str, Any] | None]
    best_code: Mapped[str | None] = mapped_column(Text)
    best_accuracy: Mapped[float | None] = mapped_column(Float)
    preserved: Mapped[list[str] | None] = mapped_column(JSONB)


class StepRow(Base):
    """A unit of work that a worker claims by a lease. ``attempt`` is the fencing token."""

    __tablename__ = "steps"
    __table_args__ = (
        one_of("kind", STEP_KINDS),
        one_of("state", STEP_STATES),
        UniqueConstraint(
            "search_id", "round_index", "kind", "shard_index", name="steps_once", postgresql_nulls_not_distinct=True
        ),
        Index("steps_open", "state", postgresql_where=text("state in ('ready', 'leased')")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), index=True)
    round_index: Mapped[int | None] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    shard_index: Mapped[int] = mapped_column(Integer, server_default="0")
    payload: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    state: Mapped[str] = mapped_column(Text, server_default="ready")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0", comment="Fencing token: only ever increases.")
    failures: Mapped[int] = mapped_column(Integer, server_default="0", comment="Attempts whose worker died.")
    release_requested: Mapped[bool] = mapped_column(
        Boolean, server_default=text("false"), comment="The worker is shutting down and shall hand the step back."
    )
    progress: Mapped[float] = mapped_column(Float, server_default="0")
    detail: Mapped[dict[str, Any] | None] = mapped_column(
        comment="What a running step reports, e.g. its epoch and loss."
    )
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    woken_at: Mapped[dt.datetime] = mapped_column(server_default=func.now(), comment="When a wake-up was last sent.")
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    lease_expires_at: Mapped[dt.datetime | None]
    not_before: Mapped[dt.datetime | None] = mapped_column(
        comment="A step that was put off is no one's turn until then."
    )


class PairRow(Base):
    """An arch-accuracy pair (M, z) of a round; re-evaluated ones are kept beside the sampled ones."""

    __tablename__ = "pairs"
    __table_args__ = (one_of("source", PAIR_SOURCES),)

    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    round_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    code: Mapped[str] = mapped_column(Text, primary_key=True)
    accuracy: Mapped[float] = mapped_column(Float, comment="z, a fraction of D_val")
    held_out: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class StandaloneAccuracyRow(Base):
    """The accuracy z* of one architecture of a search, trained by itself."""

    __tablename__ = "standalone_accuracies"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    code: Mapped[str] = mapped_column(Text, primary_key=True)
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), index=True)
    accuracy: Mapped[float] = mapped_column(Float, comment="z*, a fraction of D_val")
    recipe: Mapped[str] = mapped_column(Text)
    network: Mapped[str] = mapped_column(Text, comment="proxy or target")
    from_supernet: Mapped[bool] = mapped_column(Boolean)
    seed: Mapped[int] = mapped_column(Integer)
    epochs: Mapped[int] = mapped_column(Integer)
    retraining: Mapped[dict[str, Any]] = mapped_column(comment="How it was trained, in full.")
    artifact: Mapped[str] = mapped_column(Text, comment="Its weights, below the artifact URL.")
    finished_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class DeletedSearchRow(Base):
    """What is left of a deleted search until its artifacts are gone as well."""

    __tablename__ = "deleted_searches"

    search_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    deleted_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[dt.datetime] = mapped_column(
        server_default=func.now(), index=True, comment="When its artifacts are to be removed (again)."
    )


class CounterRow(Base):
    """A number that only ever rises, also when the searches that it counts are deleted."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True, comment="Kind of the step.")
    value: Mapped[float] = mapped_column(Float, server_default="0")
