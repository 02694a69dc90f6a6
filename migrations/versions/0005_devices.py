"""Devices: the latencies of a search space's choices, for limits on the latency."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


_STEPS = (
    "train_supernet",
    "evaluate_shard",
    "fit_gcn",
    "reevaluate_shard",
    "fit_space",
    "advance",
    "train_standalone",
    "export",
)


def upgrade() -> None:
    _set_kinds(
        "kind in ('search', 'retraining', 'export', 'measurement')",
        "(kind in ('search', 'measurement')) = (origin_id is null)",
        (*_STEPS, "measure_device"),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True, comment="Whose it is; null: everybody's."),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "layout_digest", sa.Text(), nullable=False, comment="Which networks it is of, see app.domain.latency."
        ),
        sa.Column("search_space", sa.Text(), nullable=False, comment="The space's name when it was given."),
        sa.Column("latencies", postgresql.JSONB(), nullable=False, comment="base_ms and cells_ms"),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column(
            "report",
            postgresql.JSONB(),
            nullable=True,
            comment="How it was measured, and how well latencies add up.",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("origin in ('measured', 'uploaded')", name="origin_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "devices_once",
        "devices",
        ["owner", "name", "layout_digest"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_table("devices")
    op.execute("delete from searches where kind = 'measurement'")
    _set_kinds("kind in ('search', 'retraining', 'export')", "(kind = 'search') = (origin_id is null)", _STEPS)


def _set_kinds(job_kinds: str, origins: str, steps: tuple[str, ...]) -> None:
    op.drop_constraint("job_kind_known", "searches")
    op.create_check_constraint("job_kind_known", "searches", job_kinds)
    op.drop_constraint("jobs_have_an_origin", "searches")
    op.create_check_constraint("jobs_have_an_origin", "searches", origins)
    op.drop_constraint("kind_known", "steps")
    op.create_check_constraint("kind_known", "steps", f"kind in ({', '.join(map(repr, steps))})")
