"""Searches, rounds, steps, pairs and lookup tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("preset", sa.Text(), nullable=False),
        sa.Column("search_space", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("num_rounds", sa.Integer(), nullable=False),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("final_code", sa.Text(), nullable=True),
        sa.Column("final_accuracy", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'cancelling', 'cancelled', 'failed', 'succeeded')", name="state_known"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index("searches_by_age", "searches", ["created_at", "id"], unique=False)
    op.create_table(
        "lookup_tables",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("round_index", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the table's bytes"),
        sa.Column("min_multi_adds", sa.BigInteger(), nullable=False),
        sa.Column("max_multi_adds", sa.BigInteger(), nullable=False),
        sa.Column("min_params", sa.BigInteger(), nullable=False),
        sa.Column("max_params", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("search_id", "round_index"),
    )
    op.create_table(
        "pairs",
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("round_index", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False, comment="z, a fraction of D_val"),
        sa.Column("held_out", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("source in ('sampled', 'reevaluated')", name="source_known"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "round_index", "source", "code"),
    )
    op.create_table(
        "rounds",
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("round_index", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("subspace", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("held_out_tau", sa.Float(), nullable=True),
        sa.Column("fit_report", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("best_code", sa.Text(), nullable=True),
        sa.Column("best_accuracy", sa.Float(), nullable=True),
        sa.Column("preserved", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "round_index"),
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("round_index", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("shard_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("state", sa.Text(), server_default="ready", nullable=False),
        sa.Column(
            "attempt",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="Fencing token: only ever increases.",
        ),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="Attempts whose worker died."),
        sa.Column(
            "release_requested",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="The worker is shutting down and shall hand the step back.",
        ),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column(
            "detail",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="What a running step reports, e.g. its epoch and loss.",
        ),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "woken_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a wake-up was last sent.",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind in ('train_supernet', 'evaluate_shard', 'fit_gcn', 'reevaluate_shard', 'advance')", name="kind_known"
        ),
        sa.CheckConstraint("state in ('ready', 'leased', 'done', 'failed')", name="state_known"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "search_id", "round_index", "kind", "shard_index", name="steps_once", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_index(op.f("ix_steps_search_id"), "steps", ["search_id"], unique=False)
    op.create_index(
        "steps_open", "steps", ["state"], unique=False, postgresql_where=sa.text("state in ('ready', 'leased')")
    )
    op.create_table(
        "lookup_rows",
        sa.Column("table_id", sa.Integer(), nullable=False),
        sa.Column("subspace_index", sa.Integer(), nullable=False),
        sa.Column("predicted_accuracy", sa.REAL(), nullable=False),
        sa.Column("multi_adds", sa.BigInteger(), nullable=False),
        sa.Column("params", sa.BigInteger(), nullable=False),
        sa.Column("band", sa.SmallInteger(), nullable=True),
        sa.PrimaryKeyConstraint("table_id", "subspace_index"),
    )
    op.create_index(
        "lookup_rows_band",
        "lookup_rows",
        ["table_id", sa.literal_column("predicted_accuracy desc"), "subspace_index"],
        unique=False,
        postgresql_include=["multi_adds", "params", "band"],
        postgresql_where=sa.text("band is not null"),
    )


def downgrade() -> None:
    op.drop_index(
        "lookup_rows_band",
        table_name="lookup_rows",
        postgresql_include=["multi_adds", "params", "band"],
        postgresql_where=sa.text("band is not null"),
    )
    op.drop_table("lookup_rows")
    op.drop_index("steps_open", table_name="steps", postgresql_where=sa.text("state in ('ready', 'leased')"))
    op.drop_index(op.f("ix_steps_search_id"), table_name="steps")
    op.drop_table("steps")
    op.drop_table("rounds")
    op.drop_table("pairs")
    op.drop_table("lookup_tables")
    op.drop_index("searches_by_age", table_name="searches")
    op.drop_table("searches")
