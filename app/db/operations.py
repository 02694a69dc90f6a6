"""What those who run the service ask of the database: counters, the queue, how fast the work goes, how well it fits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Float, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import CounterRow, LookupTableRow, RoundRow, SearchRow, StepRow
from app.db.steps import RUNNABLE

Counter = Literal["lease_expiries", "steps_done", "evaluations", "training_images"]

RECENT_S = 3600.0
"""Speeds are those of the steps that ended within this time."""

NUM_RECENT_TABLES = 20
"""Tau is that of so many tables, the latest ones."""


@dataclass(frozen=True)
class Queue:
    """Steps that a worker could take now.

    Attributes:
        depth: How many there are.
        oldest_s: For how long the first of them has been waiting.
    """

    depth: int
    oldest_s: float


def count(session: Session, counts: Mapping[tuple[Counter, str], float]) -> None:
    """Add to counters, by name and kind of step.

    To be the last statement of its transaction, since their rows are locked until its end; in order, so that two that
    add to the same ones do not wait for each other.
    """
    rows = [{"name": name, "kind": kind, "value": value} for (name, kind), value in sorted(counts.items())]
    if rows:
        statement = insert(CounterRow).values(rows)
        total = {"value": CounterRow.value + statement.excluded.value}
        session.execute(statement.on_conflict_do_update(index_elements=["name", "kind"], set_=total))


def counters(session: Session) -> dict[tuple[str, str], float]:
    """Return all counters by name and kind of step."""
    rows = session.execute(select(CounterRow.name, CounterRow.kind, CounterRow.value))
    return {(name, kind): value for name, kind, value in rows}


def queue(session: Session) -> Queue:
    """Return how many steps wait for a worker; those that were put off, or whose search is over, do not."""
    waiting_s = func.coalesce(func.max(_seconds(func.now() - func.coalesce(StepRow.not_before, StepRow.created_at))), 0)
    depth, oldest_s = session.execute(
        select(func.count(), waiting_s)
        .select_from(StepRow)
        .join(SearchRow, SearchRow.id == StepRow.search_id)
        .where(
            StepRow.state == "ready",
            SearchRow.state.in_(RUNNABLE),
            func.coalesce(StepRow.not_before <= func.now(), True),
        )
    ).one()
    return Queue(depth, float(oldest_s))


def training_images_per_s(session: Session) -> float | None:
    """Return at how many images a second a worker trained lately, on average; None where none did."""
    speed = cast(StepRow.result["images_per_s"].astext, Float)
    found: float | None = session.scalar(_ended_lately(func.avg(speed), "train_supernet"))
    return found


def evaluations_per_s(session: Session) -> float | None:
    """Return how many sub-networks a second a worker evaluated lately; None where none did."""
    num_pairs = func.sum(cast(StepRow.result["num_pairs"].astext, Float))
    seconds = func.sum(_seconds(StepRow.finished_at - StepRow.started_at))
    speed = num_pairs / func.nullif(seconds, 0)
    found: float | None = session.scalar(_ended_lately(speed, "evaluate_shard", "reevaluate_shard"))
    return found


def recent_taus(session: Session) -> list[float]:
    """Return the held-out tau of the latest tables, the latest first; those where it is undefined are left out."""
    latest = (
        select(RoundRow.held_out_tau)
        .join(
            LookupTableRow,
            (LookupTableRow.search_id == RoundRow.search_id) & (LookupTableRow.round_index == RoundRow.round_index),
        )
        .where(RoundRow.held_out_tau.is_not(None))
        .order_by(LookupTableRow.published_at.desc(), LookupTableRow.id.desc())
        .limit(NUM_RECENT_TABLES)
    )
    return [tau for tau in session.scalars(latest) if tau is not None]


def _ended_lately(value: Any, *kinds: str) -> Any:
    recent = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, RECENT_S)
    return select(value).where(StepRow.kind.in_(kinds), StepRow.state == "done", StepRow.finished_at > recent)


def _seconds(interval: Any) -> Any:
    return func.extract("epoch", interval)
