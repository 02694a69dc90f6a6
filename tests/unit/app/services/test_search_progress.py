"""Phase, progress and remaining time of a search from its steps."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.search_progress import (
    StepProgress,
    eta_s,
    phase,
    progress,
    round_progress,
    round_state,
    working_time_s,
)

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return T0 + dt.timedelta(seconds=seconds)


def step(kind: str, round_index: int | None = None, state: str = "ready", fraction: float = 0.0) -> StepProgress:
    return StepProgress(kind, round_index, state, fraction, at(0) if state != "ready" else None)


TRAINED = step("train_supernet", None, "done")


@pytest.mark.parametrize(
    ("state", "steps", "expected"),
    [
        ("queued", [step("train_supernet")], "queued"),
        ("running", [step("train_supernet", None, "leased")], "training_supernet"),
        ("running", [TRAINED, step("evaluate_shard", 0)], "evaluating_subnetworks"),
        ("running", [TRAINED, step("evaluate_shard", 0, "done"), step("fit_gcn", 0)], "fitting_gcn"),
        ("running", [TRAINED, step("reevaluate_shard", 0, "leased")], "reevaluating"),
        ("running", [TRAINED, step("advance", 0)], "reevaluating"),
        ("running", [TRAINED, step("fit_gcn", 0, "done"), step("train_standalone", 0, "leased")], "retraining"),
        ("running", [TRAINED, step("correct_predictions", 0, "leased")], "fitting_gcn"),
        ("failed", [TRAINED, step("fit_gcn", 1, "failed")], "fitting_gcn"),
        ("cancelled", [step("train_supernet")], "training_supernet"),
        ("succeeded", [TRAINED], "done"),
    ],
)
def test_the_phase_is_that_of_the_open_steps(state: str, steps: list[StepProgress], expected: str) -> None:
    assert phase(state, steps) == expected


def test_training_weighs_as_much_as_all_rounds() -> None:
    assert progress("running", 3, []) == 0
    assert progress("running", 3, [step("train_supernet", None, "leased", 0.5)]) == pytest.approx(0.25)
    assert progress("running", 3, [TRAINED]) == pytest.approx(0.5)
    shards = [step("evaluate_shard", 0, "done"), step("evaluate_shard", 0, "leased", 0.5)]
    assert round_progress(0, shards) == pytest.approx(0.6 * 0.75)
    assert progress("running", 2, [TRAINED, *shards]) == pytest.approx(0.5 + 0.25 * 0.6 * 0.75)


def test_only_a_succeeded_search_is_at_one() -> None:
    everything = [TRAINED, *(step(kind, 0, "done") for kind in ("evaluate_shard", "fit_gcn", "reevaluate_shard"))]
    assert progress("running", 1, everything) == 0.999
    assert progress("succeeded", 1, []) == 1.0


@given(st.integers(1, 5), st.lists(st.floats(-1, 2), min_size=3, max_size=3), st.integers(0, 6))
def test_progress_rises_along_a_search(num_rounds: int, fractions: list[float], num_labels: int) -> None:
    steps: list[StepProgress] = []
    last = 0.0
    stages: list[tuple[str, int | None]] = [("train_supernet", None)]
    for t in range(num_rounds):
        labels = ("train_standalone",) * (t < num_labels) + ("correct_predictions",) * (num_labels > 0)
        stages += [(kind, t) for kind in ("evaluate_shard", "fit_gcn", *labels, "reevaluate_shard")]
    for kind, round_index in stages:
        for fraction in sorted(fractions):
            so_far = [*steps, step(kind, round_index, "leased", fraction)]
            now = progress("running", num_rounds, so_far, has_labels=num_labels > 0)
            assert last <= now + 1e-12 <= 1
            last = now
        steps.append(step(kind, round_index, "done"))
    assert last == pytest.approx(0.999) or max(fractions) < 1


def test_the_state_of_a_round() -> None:
    assert round_state(1, [step("fit_gcn", 0)], is_finished=False) == "pending"
    assert round_state(0, [step("evaluate_shard", 0, "done"), step("fit_gcn", 0)], is_finished=False) == "fitting_gcn"
    assert round_state(0, [step("evaluate_shard", 0, "done")], is_finished=False) == "evaluating_subnetworks"
    assert round_state(0, [], is_finished=True) == "done"


def test_time_in_which_nobody_worked_does_not_count() -> None:
    steps = [
        StepProgress("train_supernet", None, "done", 1, at(0), at(10)),
        StepProgress("evaluate_shard", 0, "done", 1, at(1000), at(1010)),
        StepProgress("evaluate_shard", 0, "done", 1, at(1005), at(1020)),
        StepProgress("evaluate_shard", 0, "leased", 0.5, at(1002)),
        StepProgress("evaluate_shard", 0, "ready", 0.5, at(500)),
    ]
    assert working_time_s(at(1030), steps) == 10 + 30
    assert eta_s(at(1030), 0.8, steps) == pytest.approx(10)


def test_the_remaining_time_is_unknown_at_first() -> None:
    assert eta_s(at(10), 0.0, [step("train_supernet", None, "leased")]) is None
    assert eta_s(at(10), 0.5, []) is None


def test_a_job_is_as_far_as_its_step() -> None:
    job = [step("train_standalone", None, "leased", 0.25)]
    assert phase("running", job) == "retraining"
    assert progress("running", 0, job) == 0.25
    assert progress("running", 0, [step("export", None, "done")]) == 0.999
    assert progress("succeeded", 0, [step("export", None, "done")]) == 1.0
    assert progress("queued", 0, []) == 0.0
    assert phase("running", [step("export", None, "leased")]) == "exporting"
