"""Jobs beside searches: retrainings and exports of architectures, and the stand-alone accuracies they give."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

_SEARCH_STEPS = ("train_supernet", "evaluate_shard", "fit_gcn", "reevaluate_shard", "fit_space", "advance")


def upgrade() -> None:
    op.add_column("searches", sa.Column("kind", sa.Text(), server_default="search", nullable=False))
    op.add_column(
        "searches", sa.Column("origin_id", sa.UUID(), nullable=True, comment="The search that a job is about.")
    )
    op.create_foreign_key("searches_origin_id_fkey", "searches", "searches", ["origin_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_searches_origin_id"), "searches", ["origin_id"], unique=False)
    op.create_check_constraint("job_kind_known", "searches", "kind in ('search', 'retraining', 'export')")
    op.create_check_constraint("jobs_have_an_origin", "searches", "(kind = 'search') = (origin_id is null)")
    _set_step_kinds((*_SEARCH_STEPS, "train_standalone", "export"))
    op.create_table(
        "standalone_accuracies",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False, comment="z*, a fraction of D_val"),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False, comment="proxy or target"),
        sa.Column("from_supernet", sa.Boolean(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column(
            "retraining",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="How it was trained, in full.",
        ),
        sa.Column("artifact", sa.Text(), nullable=False, comment="Its weights, below the artifact URL."),
        sa.Column("finished_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["searches.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "code"),
    )
    op.create_index(op.f("ix_standalone_accuracies_search_id"), "standalone_accuracies", ["search_id"], unique=False)


def downgrade() -> None:
    op.drop_table("standalone_accuracies")
    # jobs are nothing to the older schema; their steps go with them
    op.execute("delete from searches where kind <> 'search'")
    _set_step_kinds(_SEARCH_STEPS)
    op.drop_constraint("jobs_have_an_origin", "searches")
    op.drop_constraint("job_kind_known", "searches")
    op.drop_index(op.f("ix_searches_origin_id"), table_name="searches")
    op.drop_constraint("searches_origin_id_fkey", "searches")
    op.drop_column("searches", "origin_id")
    op.drop_column("searches", "kind")


def _set_step_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint("kind_known", "steps")
    op.create_check_constraint("kind_known", "steps", f"kind in ({', '.join(map(repr, kinds))})")
