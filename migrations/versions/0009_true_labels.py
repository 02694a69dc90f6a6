"""Steps that correct a round's predictions by true labels."""

from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

_KINDS = (
    "train_supernet",
    "evaluate_shard",
    "fit_gcn",
    "reevaluate_shard",
    "fit_space",
    "advance",
    "train_standalone",
    "export",
    "measure_device",
)


def upgrade() -> None:
    _set_kinds((*_KINDS, "correct_predictions"))


def downgrade() -> None:
    # a round that is at its labels is fitted again, and goes on without them
    op.execute("""
        update steps set state = 'ready', result = null, finished_at = null, progress = 0
        where kind = 'fit_gcn' and (search_id, round_index) in (
            select search_id, round_index from steps
            where state <> 'done' and kind in ('train_standalone', 'correct_predictions') and round_index is not null
        )
    """)
    op.execute("delete from steps where kind = 'correct_predictions'")
    op.execute("delete from steps where kind = 'train_standalone' and round_index is not null")
    _set_kinds(_KINDS)


def _set_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint("kind_known", "steps", type_="check")
    op.create_check_constraint("kind_known", "steps", f"kind in ({', '.join(map(repr, kinds))})")
