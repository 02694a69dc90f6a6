"""Stand-alone accuracies z* of a search's architectures."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import StandaloneAccuracyRow


def add(session: Session, values: dict[str, Any]) -> None:
    """Insert one accuracy (the columns of :class:`StandaloneAccuracyRow`); one that is there already stays."""
    session.execute(insert(StandaloneAccuracyRow).values(**values).on_conflict_do_nothing())


def of_search(session: Session, search_id: uuid.UUID) -> Sequence[StandaloneAccuracyRow]:
    """Return all of a search, in the order they were found."""
    query = select(StandaloneAccuracyRow).where(StandaloneAccuracyRow.search_id == search_id)
    return session.scalars(query.order_by(StandaloneAccuracyRow.finished_at, StandaloneAccuracyRow.job_id)).all()


def of_architecture(session: Session, search_id: uuid.UUID, code: str) -> Sequence[StandaloneAccuracyRow]:
    """Return all of one architecture, the latest first."""
    query = select(StandaloneAccuracyRow).where(
        StandaloneAccuracyRow.search_id == search_id, StandaloneAccuracyRow.code == code
    )
    return session.scalars(query.order_by(StandaloneAccuracyRow.finished_at.desc(), StandaloneAccuracyRow.job_id)).all()
