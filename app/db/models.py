"""The tables. PostgreSQL holds the truth about searches, their steps, pairs and lookup tables."""

import datetime as dt
import uuid
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SEARCH_STATES = ("queued", "running", "cancelling", "cancelled", "failed", "succeeded")
JOB_KINDS = ("search", "retraining", "export", "measurement")
STEP_KINDS = (
    "train_supernet",
    "evaluate_shard",
    "fit_gcn",
    "reevaluate_shard",
    "fit_space",
    "advance",
    "train_standalone",
    "correct_predictions",
    "export",
    "measure_device",
)
STEP_STATES = ("ready", "leased", "done", "failed")
PAIR_SOURCES = ("sampled", "reevaluated")
SCOPES = ("read", "submit", "admin")
DEVICE_ORIGINS = ("measured", "uploaded")
MILESTONE_KINDS = ("state", "step_done")
DELIVERY_STATES = ("pending", "delivered", "given_up")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=f"{column}_known")


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSONB, dt.datetime: DateTime(timezone=True)}


class SearchRow(Base):
    """One search, or a job about one's architecture or a device: what was asked, where it stands, what it found.

    A job has steps, leases and states as a search has; it holds a copy of its search's space and configuration.
    """

    __tablename__ = "searches"
    __table_args__ = (
        _one_of("state", SEARCH_STATES),
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


class CounterRow(Base):
    """A number that only ever rises, also when the searches that it counts are deleted."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True, comment="Kind of the step.")
    value: Mapped[float] = mapped_column(Float, server_default="0")


class DeletedSearchRow(Base):
    """What is left of a deleted search until its artifacts are gone as well."""

    __tablename__ = "deleted_searches"

    search_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    deleted_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[dt.datetime] = mapped_column(
        server_default=func.now(), index=True, comment="When its artifacts are to be removed (again)."
    )


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
        _one_of("kind", STEP_KINDS),
        _one_of("state", STEP_STATES),
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
    __table_args__ = (_one_of("source", PAIR_SOURCES),)

    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    round_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    code: Mapped[str] = mapped_column(Text, primary_key=True)
    accuracy: Mapped[float] = mapped_column(Float, comment="z, a fraction of D_val")
    held_out: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class SpaceModelRow(Base):
    """The predictor of a search's whole space, fitted on the pairs of all rounds; a new one has a new id."""

    __tablename__ = "space_models"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), unique=True)
    fitted_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    model: Mapped[bytes] = mapped_column(LargeBinary, comment="safetensors, read by app.domain.whole_space.model_bytes")
    report: Mapped[dict[str, Any]]


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


class DeviceRow(Base):
    """The latencies of one search space's choices on one device; new ones of the same device have a new id."""

    __tablename__ = "devices"
    __table_args__ = (
        _one_of("origin", DEVICE_ORIGINS),
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


class MilestoneRow(Base):
    """Something of a search that was reached for good: a state, or the end of a step.

    Triggers of ``searches`` and ``steps`` write them (see the migration that made the table), in the transaction of the
    change itself and under the lock of the search's row. So a search's sequence has no gaps, and whoever has seen one
    number has seen all before it.
    """

    __tablename__ = "milestones"
    __table_args__ = (_one_of("kind", MILESTONE_KINDS),)

    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str | None] = mapped_column(Text, comment="The search's new state.")
    step: Mapped[str | None] = mapped_column(Text, comment="The kind of the step that is done.")
    round_index: Mapped[int | None] = mapped_column(Integer)
    shard_index: Mapped[int | None] = mapped_column(Integer)


class WebhookDeliveryRow(Base):
    """The news that a search has ended, on its way to the search's webhook; written by the trigger that notes the end.

    What is sent is fixed when the search ends: every attempt sends the same.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        _one_of("state", DELIVERY_STATES),
        Index("webhook_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(
        UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")
    )
    search_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    summary: Mapped[dict[str, Any]] = mapped_column(comment="The search when it ended.")
    state: Mapped[str] = mapped_column(Text, server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    last_attempt_at: Mapped[dt.datetime | None]
    last_status: Mapped[int | None] = mapped_column(Integer, comment="HTTP status of the last answer.")
    last_error: Mapped[str | None] = mapped_column(Text, comment="Why the last attempt was none.")
    delivered_at: Mapped[dt.datetime | None]
