"""Whose turn it is, on real PostgreSQL: owners share the workers, whatever the wake-ups name and whoever races."""

import datetime as dt
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from app.db import steps as steps_db
from worker.pipeline.ports import Outcome
from worker.store import Claim, PostgresStore

if TYPE_CHECKING:
    from tests.contract.conftest import World

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def searches_of(world: "World", owner: str | None, num_searches: int, num_shards: int = 1) -> list[uuid.UUID]:
    """Searches of an owner with ready steps, the first one the oldest."""
    ids = []
    for _ in range(num_searches):
        ids.append(world.search(owner=owner))
        for shard_index in range(num_shards):
            world.step(ids[-1], shard_index=shard_index)
    return ids


def claimed_next(world: "World", worker: str = "w/1") -> Claim:
    claim = world.store.claim_fairest(worker)
    assert claim is not None
    return claim


def owner_of(world: "World", claim: Claim) -> str | None:
    return world.search_row(uuid.UUID(claim.search.id)).owner


def test_one_worker_takes_turns_between_owners(world: "World") -> None:
    """Nobody holds a lease when the only worker asks, and all of alice's searches are older than bob's one."""
    searches_of(world, "alice", 20)
    (of_bob,) = searches_of(world, "bob", 1, num_shards=3)
    served = []
    for _ in range(8):
        claim = claimed_next(world)
        served.append((owner_of(world, claim), claim.search.id == str(of_bob)))
        world.store.complete(claim, Outcome())
    assert served == [("alice", False), ("bob", True)] * 3 + [("alice", False)] * 2


def test_many_workers_are_shared_evenly(world: "World") -> None:
    searches_of(world, "alice", 20)
    searches_of(world, "bob", 10)
    searches_of(world, None, 10)
    owners = [owner_of(world, claimed_next(world, f"w{i}/1")) for i in range(9)]
    assert sorted(map(str, owners)) == ["None"] * 3 + ["alice"] * 3 + ["bob"] * 3


def test_who_holds_fewest_leases_comes_first(world: "World") -> None:
    """Bob was served a moment ago, but alice's workers are still at it."""
    searches_of(world, "alice", 5)
    held = [claimed_next(world) for _ in range(3)]
    searches_of(world, "bob", 5)
    world.store.complete(claimed_next(world), Outcome())
    assert [owner_of(world, claimed_next(world)) for _ in range(3)] == ["bob"] * 3
    assert len(held) == 3


def test_an_owners_oldest_search_is_worked_on_to_its_end(world: "World") -> None:
    """A worker keeps the data and the supernet of its last search; alternating would load them again each time."""
    searches = searches_of(world, "alice", 3, num_shards=2)
    claims = [claimed_next(world) for _ in range(6)]
    assert [claim.search.id for claim in claims] == [str(i) for i in searches for _ in range(2)]
    assert [claim.step.shard_index for claim in claims] == [0, 1] * 3


def test_an_owner_without_keys_is_one_owner(world: "World") -> None:
    searches_of(world, None, 5)
    searches_of(world, "bob", 1)
    owners = [owner_of(world, claimed_next(world)) for _ in range(2)]
    assert sorted(map(str, owners)) == ["None", "bob"]


@pytest.mark.parametrize("state", ["cancelling", "cancelled", "failed", "succeeded"])
def test_searches_that_are_over_have_no_turn(world: "World", state: str) -> None:
    world.step(world.search(state, owner="alice"))
    assert world.store.claim_fairest("w/1") is None


def test_a_search_that_cannot_be_read_holds_up_nobody(world: "World") -> None:
    broken = world.search(owner="alice", config={"from": "the future"})
    world.step(broken)
    (good,) = searches_of(world, "alice", 1)
    assert claimed_next(world).search.id == str(good)
    assert world.search_row(broken).state == "failed"


def test_a_step_that_was_put_off_waits_whoever_is_woken(world: "World") -> None:
    """Else the wake-ups of other steps would use up its attempts within a second, while the disk is still full."""
    searches_of(world, "alice", 2)
    first = claimed_next(world)
    world.store.put_off(first, "the disk is full", 5)
    second = claimed_next(world)
    assert second.search.id != first.search.id
    assert world.store.claim_fairest("w/1") is None
    world.change(first.step.id, not_before=dt.datetime.now(dt.UTC))
    again = claimed_next(world)
    assert (again.step.id, world.state(again.step.id).not_before) == (first.step.id, None)


def test_a_resumed_search_waits_for_nothing(world: "World") -> None:
    (search_id,) = searches_of(world, "alice", 1)
    world.store.put_off(claimed_next(world), "the disk is full", 5)
    assert world.store.claim_fairest("w/1") is None
    world.cancel(search_id)
    world.resume(search_id)
    claimed_next(world)


def test_wake_ups_are_interchangeable_and_repeatable(world: "World") -> None:
    """As many wake-ups as ready steps, whichever they name, take all of them; more than that do nothing."""
    searches_of(world, "alice", 4)
    searches_of(world, "bob", 2)
    claims = [world.store.claim_fairest("w/1") for _ in range(9)]
    taken = [claim.step.id for claim in claims if claim is not None]
    assert (len(taken), len(set(taken)), claims[6:]) == (6, 6, [None] * 3)


def test_workers_that_ask_at_the_same_time_all_get_a_step(world: "World") -> None:
    """All of them are told the same fairest step; the losers of each race try again."""
    searches_of(world, "alice", 20)
    searches_of(world, "bob", 4)
    barrier = Barrier(8)

    def race(worker: int) -> list[int]:
        barrier.wait()
        return [claimed_next(world, f"w{worker}/1").step.id for _ in range(2)]

    with ThreadPoolExecutor(8) as threads:
        taken = [step_id for ids in threads.map(race, range(8)) for step_id in ids]
    assert len(set(taken)) == 16
    with world.session() as session:
        owners = [
            world.search_row(step.search_id).owner
            for step in session.query(steps_db.StepRow).filter_by(state="leased").all()
        ]
    assert owners.count("bob") == 4


def test_a_race_that_never_ends_is_left_to_the_reaper(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    searches_of(world, "alice", 1)
    monkeypatch.setattr(PostgresStore, "claim", lambda *_: None)
    assert world.store.claim_fairest("w/1") is None


def test_the_reaper_wakes_as_many_as_can_be_of_use(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_db, "MAX_WOKEN", 3)
    search_id = world.search()
    step_ids = [
        world.step(search_id, shard_index=i, woken_at=LONG_AGO + dt.timedelta(days=age))
        for i, age in enumerate([3, 0, 1, 4, 2])
    ]
    assert world.reap() == sorted(step_ids[i] for i in (1, 2, 4))
    assert world.reap() == [step_ids[0], step_ids[3]]
