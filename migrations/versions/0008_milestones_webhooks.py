"""Milestones of searches, which events resume from, and the outbox of webhooks.

Both are written by triggers: a search changes its state in many places, and each of them must note it in the same
transaction (docs/adr/0012).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

_NOTE_STATE = """
create function note_search_state() returns trigger language plpgsql as $$
begin
    insert into milestones (search_id, sequence, kind, state)
    select new.id, coalesce(max(sequence), 0) + 1, 'state', new.state from milestones where search_id = new.id;
    if new.webhook_url is not null and new.state in ('succeeded', 'failed', 'cancelled') then
        insert into webhook_deliveries (search_id, summary)
        values (new.id, jsonb_build_object(
            'id', new.id,
            'kind', new.kind,
            'origin_id', new.origin_id,
            'state', new.state,
            'error', new.error,
            'dataset', new.dataset,
            'search_space', new.search_space -> 'name',
            'preset', new.preset,
            'created_at', new.created_at,
            'started_at', new.started_at,
            'finished_at', new.finished_at,
            'final', case when new.final_code is not null then
                jsonb_build_object('code', new.final_code, 'accuracy', new.final_accuracy) end
        ));
    end if;
    return null;
end $$
"""

# two shards that end at the same time have the same next number: the lock puts one after the other
_NOTE_STEP = """
create function note_step_done() returns trigger language plpgsql as $$
begin
    perform 1 from searches where id = new.search_id for no key update;
    insert into milestones (search_id, sequence, kind, step, round_index, shard_index)
    select new.search_id, coalesce(max(sequence), 0) + 1, 'step_done', new.kind, new.round_index, new.shard_index
    from milestones where search_id = new.search_id;
    return null;
end $$
"""

_TRIGGERS = (
    "create trigger search_inserted after insert on searches for each row execute function note_search_state()",
    (
        "create trigger search_state_changed after update of state on searches for each row "
        "when (old.state is distinct from new.state) execute function note_search_state()"
    ),
    (
        "create trigger step_done after update of state on steps for each row "
        "when (new.state = 'done' and old.state <> 'done') execute function note_step_done()"
    ),
)

# the milestones of a search from before: its present state
_BACKFILL = """
insert into milestones (search_id, sequence, at, kind, state)
select id, 1, coalesce(finished_at, started_at, created_at), 'state', state from searches
"""


def upgrade() -> None:
    op.add_column("searches", sa.Column("webhook_url", sa.Text(), comment="Who is told when it ends."))
    _create_milestones()
    _create_deliveries()
    for statement in (_NOTE_STATE, _NOTE_STEP, *_TRIGGERS, _BACKFILL):
        op.execute(statement)


def _create_milestones() -> None:
    op.create_table(
        "milestones",
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=True, comment="The search's new state."),
        sa.Column("step", sa.Text(), nullable=True, comment="The kind of the step that is done."),
        sa.Column("round_index", sa.Integer(), nullable=True),
        sa.Column("shard_index", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind in ('state', 'step_done')", name="kind_known"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "sequence"),
    )


def _create_deliveries() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("search_id", sa.UUID(), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("summary", postgresql.JSONB(), nullable=False, comment="The search when it ended."),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("last_attempt_at", moment, nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True, comment="HTTP status of the last answer."),
        sa.Column("last_error", sa.Text(), nullable=True, comment="Why the last attempt was none."),
        sa.Column("delivered_at", moment, nullable=True),
        sa.CheckConstraint("state in ('pending', 'delivered', 'given_up')", name="state_known"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_webhook_deliveries_search_id"), "webhook_deliveries", ["search_id"])
    op.create_index(
        "webhook_deliveries_due",
        "webhook_deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    for trigger, table in (
        ("step_done", "steps"),
        ("search_state_changed", "searches"),
        ("search_inserted", "searches"),
    ):
        op.execute(f"drop trigger {trigger} on {table}")
    op.execute("drop function note_step_done()")
    op.execute("drop function note_search_state()")
    op.drop_table("webhook_deliveries")
    op.drop_table("milestones")
    op.drop_column("searches", "webhook_url")
