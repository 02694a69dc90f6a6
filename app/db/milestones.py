"""What searches have reached for good, in the order in which it was committed; triggers write it."""

import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import MilestoneRow


def after(session: Session, search_id: uuid.UUID, sequence: int) -> Sequence[MilestoneRow]:
    """Return a search's milestones after one number, in order."""
    query = select(MilestoneRow).where(MilestoneRow.search_id == search_id, MilestoneRow.sequence > sequence)
    return session.scalars(query.order_by(MilestoneRow.sequence)).all()


def latest(session: Session, search_id: uuid.UUID) -> int:
    """Return the number of a search's last milestone."""
    query = select(MilestoneRow.sequence).where(MilestoneRow.search_id == search_id)
    return session.scalar(query.order_by(MilestoneRow.sequence.desc()).limit(1)) or 0
