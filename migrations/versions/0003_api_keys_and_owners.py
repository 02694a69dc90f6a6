"""API keys, logins, and whose each search is; what quotas, turns and retention need to know."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_NOW = sa.text("now()")


def _search_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("owner", sa.Text(), nullable=True, comment="Whose it is; null: made without keys."),
        sa.Column(
            "expected_rows",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Rows that its lookup tables will have at most.",
        ),
        sa.Column(
            "artifact_bytes",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Size of its checkpoints when they were last measured.",
        ),
        sa.Column("artifacts_measured_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "last_claimed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When a worker last took a step of it; owners take turns by it.",
        ),
    )


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False, comment="SHA-256, in hexadecimal"),
        sa.Column("prefix", sa.Text(), nullable=False, comment="The key's first letters, to tell keys apart."),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("rate_limit_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="To the minute."),
        sa.CheckConstraint("scopes <@ array['read', 'submit', 'admin']", name="scopes_known"),
        sa.CheckConstraint("cardinality(scopes) > 0", name="scopes_some"),
        sa.CheckConstraint("owner <> ''", name="owner_named"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_index(op.f("ix_api_keys_owner"), "api_keys", ["owner"], unique=False)
    op.create_table(
        "login_sessions",
        sa.Column("token_hash", sa.Text(), nullable=False, comment="SHA-256 of the cookie, in hexadecimal"),
        sa.Column("key_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_index(op.f("ix_login_sessions_key_id"), "login_sessions", ["key_id"], unique=False)
    op.create_index(op.f("ix_login_sessions_expires_at"), "login_sessions", ["expires_at"], unique=False)
    op.create_table(
        "deleted_searches",
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            server_default=_NOW,
            nullable=False,
            comment="When its artifacts are to be removed (again).",
        ),
        sa.PrimaryKeyConstraint("search_id"),
    )
    op.create_index(op.f("ix_deleted_searches_due_at"), "deleted_searches", ["due_at"], unique=False)
    for column in _search_columns():
        op.add_column("searches", column)
    op.add_column(
        "steps",
        sa.Column(
            "not_before",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="A step that was put off is no one's turn until then.",
        ),
    )
    op.create_index("searches_by_owner", "searches", ["owner", "created_at", "id"], unique=False)
    op.drop_constraint("searches_idempotency_key_key", "searches", type_="unique")
    op.create_index(
        "searches_idempotent",
        "searches",
        ["owner", "idempotency_key"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("idempotency_key is not null"),
    )


def downgrade() -> None:
    op.drop_index("searches_idempotent", table_name="searches", postgresql_where=sa.text("idempotency_key is not null"))
    # two owners may have used the same key; the older search keeps it
    op.execute("""
        update searches set idempotency_key = null where id in (
            select id from (
                select id, row_number() over (partition by idempotency_key order by created_at, id) as position
                from searches where idempotency_key is not null
            ) as numbered where position > 1
        )
    """)
    op.create_unique_constraint("searches_idempotency_key_key", "searches", ["idempotency_key"])
    op.drop_index("searches_by_owner", table_name="searches")
    for column in reversed(_search_columns()):
        op.drop_column("searches", column.name)
    op.drop_column("steps", "not_before")
    op.drop_table("deleted_searches")
    op.drop_table("login_sessions")
    op.drop_table("api_keys")
