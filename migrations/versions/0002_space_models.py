"""Models of whole search spaces, and the step that fits one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_KINDS = "kind in ('train_supernet', 'evaluate_shard', 'fit_gcn', 'reevaluate_shard', 'advance')"
_KINDS_NOW = "kind in ('train_supernet', 'evaluate_shard', 'fit_gcn', 'reevaluate_shard', 'fit_space', 'advance')"


def upgrade() -> None:
    op.create_table(
        "space_models",
        sa.Column("id", sa.Integer(), sa.Identity(), primary_key=True),
        sa.Column(
            "search_id", sa.UUID(), sa.ForeignKey("searches.id", ondelete="CASCADE"), nullable=False, unique=True
        ),
        sa.Column("fitted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "model", sa.LargeBinary(), nullable=False, comment="safetensors, read by app.domain.whole_space.model_bytes"
        ),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    )
    op.drop_constraint("kind_known", "steps", type_="check")
    op.create_check_constraint("kind_known", "steps", _KINDS_NOW)


def downgrade() -> None:
    # a search on its way from the space's fit to its end goes on without it, as before
    op.execute("update steps set kind = 'advance' where kind = 'fit_space' and state <> 'done'")
    op.execute("delete from steps where kind = 'fit_space'")
    op.drop_constraint("kind_known", "steps", type_="check")
    op.create_check_constraint("kind_known", "steps", _KINDS)
    op.drop_table("space_models")
