"""What an owner's searches take: how many are open, the rows of their tables, the bytes of their checkpoints."""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.db.models import LookupTableRow, SearchRow

OPEN_STATES = ("queued", "running", "cancelling")


@dataclass(frozen=True)
class Usage:
    """What an owner has in use.

    Attributes:
        num_open: Searches that are not over.
        num_rows: Rows of lookup tables; of open searches those that their tables will have at most.
        artifact_bytes: Size of the checkpoints when they were last measured.
    """

    num_open: int
    num_rows: int
    artifact_bytes: int


def lock_owner(session: Session, owner: str | None) -> None:
    """Let one transaction after another ask and add to what an owner has in use."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(owner or "", 0))))


def of_owner(session: Session, owner: str | None) -> Usage:
    """Return what an owner (None: whoever called without a key) has in use."""
    stored = (
        select(func.coalesce(func.sum(LookupTableRow.num_rows), 0))
        .where(LookupTableRow.search_id == SearchRow.id)
        .scalar_subquery()
    )
    is_open = SearchRow.state.in_(OPEN_STATES)
    num_rows = case((is_open, func.greatest(stored, SearchRow.expected_rows)), else_=stored)
    row = session.execute(
        select(
            func.count().filter(is_open),
            func.coalesce(func.sum(num_rows), 0),
            func.coalesce(func.sum(SearchRow.artifact_bytes), 0),
        ).where(SearchRow.owner.is_not_distinct_from(owner))
    ).one()
    return Usage(row[0], int(row[1]), int(row[2]))
