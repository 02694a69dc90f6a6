"""Whose turn it is: which ready step is claimed next, so that one owner's many searches do not starve another's one."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import SearchRow, StepRow
from app.db.steps import RUNNABLE

_NOBODY = ""
"""Stands for the owner of searches that were made without keys; no key's owner is empty."""


def fairest_ready_step(session: Session) -> int | None:
    """Return the ready step to claim next, or None where none is ready (those that were put off have to wait).

    The order: the owner at whose searches the fewest workers are; among those the one who was served longest ago (with
    few workers nobody has a lease whenever one of them asks, so without this the oldest searches would always win);
    then that owner's oldest search, whose data and supernet the worker most likely still has; then its oldest step.
    """
    owner = func.coalesce(SearchRow.owner, _NOBODY)
    held = (
        select(owner.label("owner"), func.count().label("num_leases"))
        .select_from(StepRow)
        .join(SearchRow, SearchRow.id == StepRow.search_id)
        .where(StepRow.state == "leased")
        .group_by(owner)
        .subquery()
    )
    served = (
        select(owner.label("owner"), func.max(SearchRow.last_claimed_at).label("last_at")).group_by(owner).subquery()
    )
    return session.scalar(
        select(StepRow.id)
        .join(SearchRow, SearchRow.id == StepRow.search_id)
        .outerjoin(held, held.c.owner == owner)
        .outerjoin(served, served.c.owner == owner)
        .where(
            StepRow.state == "ready",
            SearchRow.state.in_(RUNNABLE),
            func.coalesce(StepRow.not_before <= func.now(), True),
        )
        .order_by(
            func.coalesce(held.c.num_leases, 0),
            served.c.last_at.asc().nulls_first(),
            SearchRow.created_at,
            SearchRow.id,
            StepRow.id,
        )
        .limit(1)
    )
