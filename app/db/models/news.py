"""What a search has reached, and who is told of its end."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, Text, func, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, one_of

MILESTONE_KINDS = ("state", "step_done")
DELIVERY_STATES = ("pending", "delivered", "given_up")


class MilestoneRow(Base):
    """Something of a search that was reached for good: a state, or the end of a step.

    Triggers of ``searches`` and ``steps`` write them (see the migration that made the table), in the transaction of the
    change itself and under the lock of the search's row. So a search's sequence has no gaps, and whoever has seen one
    number has seen all before it.
    """

    __tablename__ = "milestones"
    __table_args__ = (one_of("kind", MILESTONE_KINDS),)

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
        one_of("state", DELIVERY_STATES),
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
