"""Searches and what belongs to them: inserted, listed, read, cancelled and resumed. Nothing here commits."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import LookupRow, LookupTableRow, PairRow, RoundRow, SearchRow, StepRow

PAIR_KEY = (int, str, str)
"""Types of what pages of pairs are ordered by: round, source, code."""

SEARCH_KEY = (dt.datetime, uuid.UUID)
"""Types of what pages of searches are ordered by: age, id."""


class PairCount(NamedTuple):
    """How many pairs of one kind a round of a search has."""

    search_id: uuid.UUID
    round_index: int
    source: str
    num_pairs: int


def insert_search(
    session: Session, values: dict[str, Any], kind: str = "train_supernet", payload: Mapping[str, Any] | None = None
) -> tuple[uuid.UUID, int] | None:
    """Insert a search with its first step, by default the training of the supernet, or a job with its only step.

    Returns:
        The ids of the search and of the step; None if another search of the owner has the same idempotency key.
    """
    search_id = session.scalar(
        insert(SearchRow)
        .values(id=uuid.uuid4(), **values)
        .on_conflict_do_nothing(
            index_elements=[SearchRow.owner, SearchRow.idempotency_key],
            index_where=SearchRow.idempotency_key.is_not(None),
        )
        .returning(SearchRow.id)
    )
    if search_id is None:
        return None
    step_id = session.scalar(
        insert(StepRow).values(search_id=search_id, kind=kind, payload=dict(payload or {})).returning(StepRow.id)
    )
    assert step_id is not None
    return search_id, step_id


def get_search(session: Session, search_id: uuid.UUID, *, lock: bool = False) -> SearchRow | None:
    """Return a search, optionally locked against any other change until the transaction ends."""
    query = select(SearchRow).where(SearchRow.id == search_id)
    return session.scalar(query.with_for_update() if lock else query)


def keep(session: Session, search_id: uuid.UUID) -> bool:
    """Have a deletion of a search wait until the transaction ends; False where it is deleted already."""
    query = select(SearchRow.id).where(SearchRow.id == search_id)
    return session.scalar(query.with_for_update(read=True, key_share=True)) is not None


def find_by_idempotency_key(session: Session, owner: str | None, key: str) -> SearchRow | None:
    """Return the search that an owner submitted with an idempotency key."""
    return session.scalar(
        select(SearchRow).where(SearchRow.owner.is_not_distinct_from(owner), SearchRow.idempotency_key == key)
    )


def searches_newest_first(state: str | None, owner: str | None, kind: str | None = "search") -> Select[SearchRow]:
    """Return the query of all searches, or of those in a state or of an owner; by :data:`SEARCH_KEY`, descending.

    Args:
        state: Only those in this state.
        owner: Only those of this owner; None: of all.
        kind: Which kind of job; None: all, searches and jobs about their architectures.
    """
    query = select(SearchRow).order_by(SearchRow.created_at.desc(), SearchRow.id.desc())
    if owner is not None:
        query = query.where(SearchRow.owner == owner)
    if kind is not None:
        query = query.where(SearchRow.kind == kind)
    return query if state is None else query.where(SearchRow.state == state)


def pairs_in_order(search_id: uuid.UUID, round_index: int | None, source: str | None) -> Select[PairRow]:
    """Return the query of a search's pairs; ordered by :data:`PAIR_KEY`."""
    query = select(PairRow).where(PairRow.search_id == search_id)
    if round_index is not None:
        query = query.where(PairRow.round_index == round_index)
    if source is not None:
        query = query.where(PairRow.source == source)
    return query.order_by(PairRow.round_index, PairRow.source, PairRow.code)


def pairs_after(
    session: Session,
    search_id: uuid.UUID,
    round_index: int | None,
    source: str | None,
    last: tuple[int, str, str] | None,
    limit: int,
) -> Sequence[PairRow]:
    """Return the pairs of a search that come after one with a given :data:`PAIR_KEY`, or the first ones; in order."""
    query = pairs_in_order(search_id, round_index, source).limit(limit)
    if last is not None:
        query = query.where(tuple_(PairRow.round_index, PairRow.source, PairRow.code) > tuple_(*last))
    return session.scalars(query).all()


def rounds_of(session: Session, search_ids: Sequence[uuid.UUID]) -> Sequence[RoundRow]:
    """Return the rounds of some searches, in order."""
    query = select(RoundRow).where(RoundRow.search_id.in_(search_ids))
    return session.scalars(query.order_by(RoundRow.search_id, RoundRow.round_index)).all()


def steps_of(session: Session, search_ids: Sequence[uuid.UUID]) -> Sequence[StepRow]:
    """Return the steps of some searches, in the order they were made."""
    return session.scalars(select(StepRow).where(StepRow.search_id.in_(search_ids)).order_by(StepRow.id)).all()


def tables_of(session: Session, search_ids: Sequence[uuid.UUID]) -> Sequence[LookupTableRow]:
    """Return the headers of the lookup tables of some searches, in the order of the rounds."""
    query = select(LookupTableRow).where(LookupTableRow.search_id.in_(search_ids))
    return session.scalars(query.order_by(LookupTableRow.search_id, LookupTableRow.round_index)).all()


def pair_counts(session: Session, search_ids: Sequence[uuid.UUID]) -> list[PairCount]:
    """Return the number of pairs per search, round and source."""
    key = (PairRow.search_id, PairRow.round_index, PairRow.source)
    query = select(*key, func.count()).where(PairRow.search_id.in_(search_ids)).group_by(*key)
    return [PairCount(*row) for row in session.execute(query)]


def pairs_of_architecture(session: Session, search_id: uuid.UUID, code: str) -> Sequence[PairRow]:
    """Return all pairs of one architecture, by round."""
    query = select(PairRow).where(PairRow.search_id == search_id, PairRow.code == code)
    return session.scalars(query.order_by(PairRow.round_index, PairRow.source)).all()


def pairs_of_architectures(session: Session, search_id: uuid.UUID, codes: Sequence[str]) -> Sequence[PairRow]:
    """Return the pairs of some architectures, sampled before re-evaluated and the latest round last."""
    query = select(PairRow).where(PairRow.search_id == search_id, PairRow.code.in_(codes))
    return session.scalars(query.order_by(PairRow.round_index, PairRow.source.desc(), PairRow.code)).all()


def prediction(session: Session, table_id: int, subspace_index: int) -> float | None:
    """Return the predicted accuracy of one row of a published table; None if the table was replaced just now."""
    query = select(LookupRow.predicted_accuracy)
    return session.scalar(query.where(LookupRow.table_id == table_id, LookupRow.subspace_index == subspace_index))


def supernet_is_trained(session: Session, search_id: uuid.UUID) -> bool:
    """Whether a search's supernet is there to take weights from."""
    query = select(StepRow.id).where(
        StepRow.search_id == search_id, StepRow.kind == "train_supernet", StepRow.state == "done"
    )
    return session.scalar(query) is not None


def has_leased_steps(session: Session, search_id: uuid.UUID) -> bool:
    """Whether a worker is at work on a step of the search: one whose lease is still good."""
    query = select(StepRow.id).where(StepRow.search_id == search_id, StepRow.state == "leased", ~_lease_is_over())
    return session.scalar(query.limit(1)) is not None


def reopen_steps(session: Session, search_id: uuid.UUID) -> list[int]:
    """Make the failed steps, and those whose worker is gone, ready again; forget how often their workers died.

    The attempt number stays: it is the fencing token and may only rise.

    Returns:
        The ids of all ready steps of the search.
    """
    lost = or_(StepRow.state.in_(("ready", "failed")), (StepRow.state == "leased") & _lease_is_over())
    # a worker locks its step before the search, we the other way round: whoever holds a step now is not waited for
    free = select(StepRow.id).where(StepRow.search_id == search_id, lost).with_for_update(skip_locked=True)
    step_ids = sorted(session.scalars(free))
    session.execute(
        update(StepRow)
        .where(StepRow.id.in_(step_ids))
        .values(
            state="ready",
            failures=0,
            error=None,
            worker=None,
            finished_at=None,
            lease_expires_at=None,
            not_before=None,
            woken_at=func.now(),
        )
        .execution_options(synchronize_session=False)
    )
    return step_ids


def set_state(session: Session, search_id: uuid.UUID, state: str, **values: Any) -> None:
    """Set the state of a search, and other columns with it."""
    session.execute(update(SearchRow).where(SearchRow.id == search_id).values(state=state, **values))


def set_request(session: Session, search_id: uuid.UUID, request_id: str | None) -> None:
    """Set the request that a search was last asked for with."""
    session.execute(update(SearchRow).where(SearchRow.id == search_id).values(request_id=request_id))


def states_count(session: Session) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return how many searches there are by state, and how many steps by kind and state."""
    searches = session.execute(select(SearchRow.state, func.count()).group_by(SearchRow.state))
    steps = session.execute(select(StepRow.kind, StepRow.state, func.count()).group_by(StepRow.kind, StepRow.state))
    return dict(searches.all()), {(kind, state): count for kind, state, count in steps}


def _lease_is_over() -> ColumnElement[bool]:
    return func.coalesce(StepRow.lease_expires_at < func.now(), True)
