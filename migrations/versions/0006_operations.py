"""Counters that outlive the searches they count, and the request that a search was last asked for with."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="Kind of the step."),
        sa.Column("value", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", "kind"),
    )
    op.add_column(
        "searches",
        sa.Column("request_id", sa.Text(), nullable=True, comment="The request that submitted or resumed it last."),
    )


def downgrade() -> None:
    op.drop_column("searches", "request_id")
    op.drop_table("counters")
