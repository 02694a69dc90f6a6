"""Uploads: data sets that callers bring, and the searches that read them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.UUID(), nullable=False, comment="Also the name of its folder."),
        sa.Column("owner", sa.Text(), nullable=True, comment="Whose it is; null: made without keys."),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False, comment="Size on disk, unpacked."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uploads_once", "uploads", ["owner", "name"], unique=True, postgresql_nulls_not_distinct=True)
    op.add_column(
        "searches",
        sa.Column(
            "upload_id",
            sa.UUID(),
            nullable=True,
            comment="The upload that its data set is, be it deleted since; null: one of the operator's.",
        ),
    )


def downgrade() -> None:
    # what reads an upload would read the operator's data set of that name, or none
    op.execute("delete from searches where upload_id is not null")
    op.drop_column("searches", "upload_id")
    op.drop_table("uploads")
