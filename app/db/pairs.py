"""Arch-accuracy pairs: stored once per round, source and architecture."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import PairRow


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert pairs (all columns of :class:`PairRow`); one that is there already stays as it is."""
    if rows:
        session.execute(insert(PairRow).on_conflict_do_nothing(), list(rows))


def of_round(session: Session, search_id: uuid.UUID, round_index: int, source: str) -> Sequence[Row[str, float, bool]]:
    """Return (code, accuracy, held_out) of a round's pairs of one source, sorted by code."""
    return session.execute(
        select(PairRow.code, PairRow.accuracy, PairRow.held_out)
        .where(PairRow.search_id == search_id, PairRow.round_index == round_index, PairRow.source == source)
        # bytewise, whatever the database's collation: the order decides which row of a matrix a pair becomes
        .order_by(PairRow.code.collate("C"))
    ).all()
