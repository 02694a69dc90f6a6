"""The outbox of webhooks: deliveries are claimed when they are due, tried, and tried again later and later.

The news itself is written by the trigger that notes a search's end. Nothing here commits.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db.models import SearchRow, WebhookDeliveryRow

MAX_ATTEMPTS = 8
"""The last one is some ten hours after the first."""

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 6 * 3600.0
_MAX_ERROR_LENGTH = 500


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery whose turn it is.

    Attributes:
        id: Its id, the same in every attempt.
        search_id: The search that has ended.
        url: Where it goes.
        summary: What is told.
        attempts: Number of this attempt, from 1.
    """

    id: uuid.UUID
    search_id: uuid.UUID
    url: str
    summary: dict[str, Any]
    attempts: int


def claim_due(session: Session, limit: int) -> list[ClaimedDelivery]:
    """Take deliveries that are due; each is due again after its pause, whatever becomes of who took it.

    The pause is 10 s after the first attempt and four times as long after every other, up to six hours.
    """
    due = (
        select(WebhookDeliveryRow.id)
        .where(WebhookDeliveryRow.state == "pending", WebhookDeliveryRow.next_attempt_at <= func.now())
        .where(WebhookDeliveryRow.attempts < MAX_ATTEMPTS)
        .order_by(WebhookDeliveryRow.next_attempt_at, WebhookDeliveryRow.id)
        .limit(limit)
        # several couriers neither wait for each other nor take the same
        .with_for_update(skip_locked=True)
    )
    pause_s = func.least(_FIRST_PAUSE_S * func.power(4, WebhookDeliveryRow.attempts), _LONGEST_PAUSE_S)
    rows = session.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id.in_(due.cte("due").select()), SearchRow.id == WebhookDeliveryRow.search_id)
        .values(
            attempts=WebhookDeliveryRow.attempts + 1,
            last_attempt_at=func.now(),
            next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, pause_s),
        )
        .returning(
            WebhookDeliveryRow.id,
            WebhookDeliveryRow.search_id,
            SearchRow.webhook_url,
            WebhookDeliveryRow.summary,
            WebhookDeliveryRow.attempts,
        )
        .execution_options(synchronize_session=False)
    )
    return [ClaimedDelivery(*row) for row in rows]


def note_delivered(session: Session, delivery: ClaimedDelivery, status: int) -> None:
    """Note that the receiver has taken it."""
    _note(session, delivery, state="delivered", last_status=status, last_error=None, delivered_at=func.now())


def note_failed(session: Session, delivery: ClaimedDelivery, status: int | None, reason: str) -> None:
    """Note that an attempt failed; the last one that there may be gives up."""
    state = "pending" if delivery.attempts < MAX_ATTEMPTS else "given_up"
    _note(session, delivery, state=state, last_status=status, last_error=reason[:_MAX_ERROR_LENGTH])


def _note(session: Session, delivery: ClaimedDelivery, **values: Any) -> None:
    """Note what an attempt gave, unless a later one is under way or was delivered."""
    session.execute(
        update(WebhookDeliveryRow)
        .where(
            WebhookDeliveryRow.id == delivery.id,
            WebhookDeliveryRow.state == "pending",
            WebhookDeliveryRow.attempts == delivery.attempts,
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def give_up_lost(session: Session) -> None:
    """Give up deliveries whose last attempt ended without a word: its courier died."""
    session.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.state == "pending", WebhookDeliveryRow.next_attempt_at <= func.now())
        .where(WebhookDeliveryRow.attempts >= MAX_ATTEMPTS)
        .values(state="given_up", last_error=func.coalesce(WebhookDeliveryRow.last_error, "the attempts were cut off"))
        .execution_options(synchronize_session=False)
    )


def latest_of(session: Session, search_id: uuid.UUID) -> WebhookDeliveryRow | None:
    """Return the delivery about a search's last end; None before it has ended."""
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.search_id == search_id)
    return session.scalar(query.order_by(WebhookDeliveryRow.created_at.desc(), WebhookDeliveryRow.id).limit(1))


def of_search(session: Session, search_id: uuid.UUID) -> Sequence[WebhookDeliveryRow]:
    """Return all deliveries about a search, the first one first."""
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.search_id == search_id)
    return session.scalars(query.order_by(WebhookDeliveryRow.created_at, WebhookDeliveryRow.id)).all()
