"""The outbox of webhooks: one delivery for every end, taken by one courier at a time, tried later and later."""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, update

from app.db import steps as steps_db
from app.db import webhooks as webhooks_db
from app.db.engine import transaction
from app.db.models import MilestoneRow, WebhookDeliveryRow
from app.db.webhooks import MAX_ATTEMPTS, ClaimedDelivery
from worker.pipeline.ports import Outcome

if TYPE_CHECKING:
    from tests.contract.conftest import World

URL = "https://example.org/hook"


def deliveries(world: "World", search_id: uuid.UUID) -> list[WebhookDeliveryRow]:
    with transaction(world.engine) as session:
        return list(webhooks_db.of_search(session, search_id))


def claim(world: "World", limit: int = 10) -> list[ClaimedDelivery]:
    with transaction(world.engine) as session:
        return webhooks_db.claim_due(session, limit)


def make_due(world: "World") -> None:
    with transaction(world.engine) as session:
        session.execute(update(WebhookDeliveryRow).values(next_attempt_at=func.now()))


def ended(world: "World", state: str = "succeeded") -> uuid.UUID:
    return world.search(state, webhook_url=URL, finished_at=func.now())


def complete(world: "World", step_id: int) -> None:
    world.store.complete(world.claimed(step_id), Outcome(search_done=True))


def fail(world: "World", step_id: int) -> None:
    world.store.fail(world.claimed(step_id), "broken")


def let_worker_die(world: "World", step_id: int) -> None:
    world.claimed(step_id)
    world.let_lease_run_out(step_id)
    world.reap(max_attempts=1)


def cancel_at_rest(world: "World", step_id: int) -> None:
    world.cancel(world.state(step_id).search_id)


def cancel_under_way(world: "World", step_id: int) -> None:
    claimed = world.claimed(step_id)
    world.cancel(world.state(step_id).search_id)
    assert deliveries(world, world.state(step_id).search_id) == []
    world.store.hand_back(claimed)


@pytest.mark.parametrize(
    ("end", "state", "error"),
    [
        (complete, "succeeded", None),
        (fail, "failed", "broken"),
        (let_worker_die, "failed", "died"),
        (cancel_at_rest, "cancelled", None),
        (cancel_under_way, "cancelled", None),
    ],
)
def test_every_end_is_told_of_once(
    world: "World", end: Callable[["World", int], None], state: str, error: str | None
) -> None:
    search_id = world.search(webhook_url=URL)
    end(world, world.step(search_id))
    (delivery,) = deliveries(world, search_id)
    assert (delivery.state, delivery.attempts) == ("pending", 0)
    summary = delivery.summary
    assert (summary["id"], summary["state"], summary["kind"]) == (str(search_id), state, "search")
    assert (summary["dataset"], summary["search_space"]) == ("digits", "nas-bench-macro")
    assert (error or "") in (summary["error"] or "")
    assert dt.datetime.fromisoformat(summary["finished_at"]) == world.search_row(search_id).finished_at


def test_nobody_is_told_without_a_webhook(world: "World") -> None:
    search_id = world.search()
    complete(world, world.step(search_id))
    assert deliveries(world, search_id) == []


def test_a_search_that_is_resumed_is_told_of_again(world: "World") -> None:
    search_id = world.search(webhook_url=URL)
    step_id = world.step(search_id)
    fail(world, step_id)
    world.resume(search_id)
    complete(world, step_id)
    assert [delivery.summary["state"] for delivery in deliveries(world, search_id)] == ["failed", "succeeded"]


def test_what_is_rolled_back_is_not_told(world: "World") -> None:
    search_id = world.search(webhook_url=URL)
    step_id = world.step(search_id)
    claimed = world.claimed(step_id)
    with world.session() as session:
        steps_db.lock_search(session, search_id)
        steps_db.fail(session, claimed.key, "broken")
        session.rollback()
    assert deliveries(world, search_id) == []


def test_shards_that_end_at_the_same_time_have_numbers_without_gaps(world: "World") -> None:
    search_id = world.search()
    claims = [world.claimed(world.step(search_id, shard_index=i)) for i in range(4)]
    for claimed in claims:
        world.store.complete(claimed, Outcome())
    with transaction(world.engine) as session:
        rows = session.query(MilestoneRow).order_by(MilestoneRow.sequence).all()
    assert [row.sequence for row in rows] == list(range(1, 7))
    assert [row.state or row.shard_index for row in rows] == ["queued", "running", 0, 1, 2, 3]


def test_couriers_take_different_deliveries_and_wait_for_nobody(world: "World") -> None:
    search_ids = {ended(world) for _ in range(3)}
    with world.session() as first, world.session() as second:
        taken = webhooks_db.claim_due(first, 2)
        others = webhooks_db.claim_due(second, 10)
        assert (len(taken), len(others)) == (2, 1)
        assert {delivery.search_id for delivery in (*taken, *others)} == search_ids
        first.commit()
        second.commit()
    assert claim(world) == []


def test_the_pauses_grow_and_the_last_attempt_gives_up(world: "World") -> None:
    search_id = ended(world)
    pauses = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (claimed,) = claim(world)
        assert (claimed.attempts, claimed.url) == (attempt, URL)
        (row,) = deliveries(world, search_id)
        assert row.last_attempt_at is not None
        pauses.append((row.next_attempt_at - row.last_attempt_at).total_seconds())
        with transaction(world.engine) as session:
            webhooks_db.note_failed(session, claimed, 500, "x" * 9000)
        make_due(world)
    assert pauses == [10, 40, 160, 640, 2560, 10240, 21600, 21600]
    (row,) = deliveries(world, search_id)
    assert (row.state, row.attempts, row.last_status, len(row.last_error or "")) == ("given_up", 8, 500, 500)
    assert claim(world) == []


def test_a_courier_that_died_in_the_last_attempt_leaves_nothing_pending(world: "World") -> None:
    search_id = ended(world)
    for _ in range(MAX_ATTEMPTS):
        assert claim(world)
        make_due(world)
    assert claim(world) == []
    with transaction(world.engine) as session:
        webhooks_db.give_up_lost(session)
    (row,) = deliveries(world, search_id)
    assert (row.state, row.last_error) == ("given_up", "the attempts were cut off")


def test_a_late_word_of_an_earlier_attempt_changes_nothing(world: "World") -> None:
    search_id = ended(world)
    (early,) = claim(world)
    make_due(world)
    (late,) = claim(world)
    with transaction(world.engine) as session:
        webhooks_db.note_failed(session, early, None, "too late")
        assert webhooks_db.latest_of(session, search_id).last_error is None  # type: ignore[union-attr]
        webhooks_db.note_delivered(session, late, 204)
        webhooks_db.note_failed(session, late, None, "too late")
    (row,) = deliveries(world, search_id)
    assert (row.state, row.last_status, row.last_error) == ("delivered", 204, None)
    assert row.delivered_at is not None
    make_due(world)
    assert claim(world) == []
