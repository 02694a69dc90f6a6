"""Algorithm 1 as a whole, run to its end by a scheduler of a few lines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.domain.whole_space.model_bytes import to_bytes
from worker.pipeline.ports import Fit, LeaseLostError, Search, StepInterrupted

if TYPE_CHECKING:
    from tests.unit.worker.pipeline.conftest import Scheduler

Schedule = Callable[..., "Scheduler"]


def everything(scheduler: "Scheduler") -> tuple[Any, ...]:
    """All that a search leaves behind, comparable."""
    store, search = scheduler.store, scheduler.search
    return (
        store.subspaces,
        {key: store.pairs(search, *key) for key in store.stored_pairs},
        {t: (fitted.table.digest(), fitted.held_out_tau) for t, fitted in store.fitted.items()},
        store.closed,
        store.space and to_bytes(store.space.model),
        store.done,
    )


def test_the_kinds_of_steps_in_order(schedule: Schedule) -> None:
    scheduler = schedule(shard_size=1000).run()
    assert [(step.kind, step.round_index) for step in scheduler.ran] == [
        ("train_supernet", None),
        *((kind, 0) for kind in ("evaluate_shard", "fit_gcn", "reevaluate_shard", "advance")),
        *((kind, 1) for kind in ("evaluate_shard", "fit_gcn", "reevaluate_shard", "fit_space", "advance")),
    ]
    assert scheduler.networks.num_trained == 1
    assert scheduler.store.done


def test_the_final_architecture_is_the_best_reevaluated_of_the_last_round(
    schedule: Schedule, true_accuracy: Callable[[Sequence[int]], float]
) -> None:
    scheduler = schedule(preserve_by="reevaluated").run()
    last = scheduler.store.pairs(scheduler.search, 1, "reevaluated")
    final = scheduler.store.closed[1]
    assert final.best_accuracy == max(pair.accuracy for pair in last)
    assert final.best_accuracy == true_accuracy(scheduler.search.space.parse_code(final.best_code))
    # the formula rewards every cell: a search that works ends near the top of all 729 architectures
    every = np.stack(np.unravel_index(np.arange(729), (3,) * 6), axis=1).tolist()
    assert sum(true_accuracy(m) > final.best_accuracy for m in every) < 10


def test_a_round_never_ends_below_what_an_earlier_one_found(schedule: Schedule) -> None:
    scheduler = schedule(num_rounds=4, num_reevaluated=1, num_preserved=1, preserve_by="reevaluated")
    fit = scheduler.networks.fit

    def fit_that_is_wrong_later(search: Search, round_index: int, *args: Any) -> Fit:
        right = fit(search, round_index, *args)
        return replace(right, predicted_accuracy=1 - right.predicted_accuracy) if round_index else right

    scheduler.networks.fit = fit_that_is_wrong_later  # type: ignore[method-assign]
    scheduler.run()
    best = [scheduler.store.closed[t].best_accuracy for t in range(4)]
    assert best == sorted(best)
    for t in range(1, 4):
        evaluated = {pair.code for pair in scheduler.store.pairs(scheduler.search, t, "reevaluated")}
        assert scheduler.store.closed[t - 1].best_code in evaluated


def test_rounds_improve_on_the_initial_architecture(
    schedule: Schedule, true_accuracy: Callable[[Sequence[int]], float]
) -> None:
    scheduler = schedule(initial_architecture="000000", num_rounds=4).run()
    found = [true_accuracy((0,) * 6), *(scheduler.store.closed[t].best_accuracy for t in range(4))]
    assert found[0] < found[1] < found[2]
    assert all(after >= before - 0.05 for before, after in pairwise(found))


@pytest.mark.parametrize("num_rounds", [1, 2, 3, 5])
def test_any_number_of_rounds(schedule: Schedule, num_rounds: int) -> None:
    scheduler = schedule(num_rounds=num_rounds).run()
    segments = [scheduler.store.subspaces[t].segment for t in range(num_rounds)]
    assert set(scheduler.store.closed) == set(range(num_rounds))
    assert all(not set(a) & set(b) for a, b in pairwise(segments))
    assert scheduler.store.done
    for t in range(1, num_rounds):
        preserved = scheduler.store.closed[t - 1].preserved
        subspace = scheduler.store.subspaces[t]
        assert subspace.base == scheduler.search.space.parse_code(preserved[0])
        assert all(subspace.index(scheduler.search.space.parse_code(code)) >= 0 for code in preserved)


@pytest.mark.parametrize("shard_size", [1, 3, 8, 1000])
@pytest.mark.parametrize("order", ["first come", "last come", "random"])
def test_nothing_depends_on_shards_or_order(schedule: Schedule, shard_size: int, order: str) -> None:
    """One worker or many, big shards or small: the same pairs, tables and architectures."""
    scheduler = schedule(shard_size=shard_size, num_rounds=3)
    rng = np.random.default_rng(shard_size)
    scheduler.pick = {
        "first come": lambda n: 0,
        "last come": lambda n: n - 1,
        "random": lambda n: int(rng.integers(n)),
    }[order]
    assert everything(scheduler.run()) == everything(schedule(shard_size=50, num_rounds=3).run())


def test_the_whole_space_is_fitted_to_the_distinct_pairs_of_all_rounds(schedule: Schedule) -> None:
    scheduler = schedule().run()
    codes = {pair.code for pairs in scheduler.store.stored_pairs.values() for pair in pairs}
    assert scheduler.store.space is not None
    assert scheduler.store.space.report["num_pairs"] == len(codes) > 40


def test_another_seed_is_another_search(schedule: Schedule) -> None:
    assert everything(schedule().run()) != everything(schedule(seed=1).run())


@pytest.mark.parametrize("error", [StepInterrupted("cancel"), LeaseLostError("another worker has it")])
@pytest.mark.parametrize("kind", ["train_supernet", "evaluate_shard", "fit_gcn", "reevaluate_shard", "fit_space"])
def test_an_interruption_passes_through_and_the_search_goes_on_after_it(
    schedule: Schedule, kind: str, error: Exception
) -> None:
    scheduler = schedule().run(lambda step: step.kind == kind)
    ran = len(scheduler.ran)

    def interrupt(done: float, detail: Mapping[str, Any] | None) -> None:
        raise error

    go_on, scheduler.report = scheduler.report, interrupt
    with pytest.raises(type(error)):
        scheduler.run_one()
    assert len(scheduler.ran) == ran
    scheduler.report = go_on
    assert everything(scheduler.run()) == everything(schedule().run())
