"""How far a search is, from its steps: phase, progress in [0, 1] and the time that is left.

Weights: training the supernet counts as much as all rounds together; inside a round, sampling and evaluation 0.6, the
GCN 0.3, re-evaluation (with the advance to the next round) 0.1. Progress only rises as long as the steps' own does.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from app.schemas.search import Phase

TRAINING_WEIGHT = 0.5
ROUND_WEIGHTS = {"evaluate_shard": 0.6, "fit_gcn": 0.3, "reevaluate_shard": 0.1}
LABELLED_ROUND_WEIGHTS = {"evaluate_shard": 0.3, "fit_gcn": 0.15, "train_standalone": 0.5, "reevaluate_shard": 0.05}
"""Of the rounds of a search that trains architectures by themselves."""
MIN_PROGRESS_FOR_ETA = 0.01

_PHASE_OF_KIND: dict[str, Phase] = {
    "train_supernet": "training_supernet",
    "evaluate_shard": "evaluating_subnetworks",
    "fit_gcn": "fitting_gcn",
    "reevaluate_shard": "reevaluating",
    "fit_space": "fitting_space",
    "advance": "reevaluating",
    "train_standalone": "retraining",
    "correct_predictions": "fitting_gcn",
    "export": "exporting",
    "measure_device": "measuring",
}


@dataclass(frozen=True)
class StepProgress:
    """What this module needs to know of a step.

    Attributes:
        kind: One of the kinds of steps.
        round_index: Its round; None for the training.
        state: ready, leased, done or failed.
        progress: In [0, 1].
        started_at: When a worker took it; None before.
        finished_at: When it was done.
    """

    kind: str
    round_index: int | None
    state: str
    progress: float
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None

    @property
    def fraction(self) -> float:
        """How much of it is done, in [0, 1]."""
        return 1.0 if self.state == "done" else min(max(self.progress, 0.0), 1.0)


def phase(search_state: str, steps: Sequence[StepProgress]) -> Phase:
    """Return the phase of a search; of a failed or cancelled one, the phase in which it stopped."""
    if search_state == "succeeded":
        return "done"
    if search_state == "queued" and not any(step.started_at for step in steps):
        return "queued"
    open_steps = [step for step in steps if step.state != "done"]
    if not open_steps:
        return _PHASE_OF_KIND[steps[-1].kind] if steps else "queued"
    latest = max(open_steps, key=lambda step: -1 if step.round_index is None else step.round_index)
    return _PHASE_OF_KIND[latest.kind]


def progress(search_state: str, num_rounds: int, steps: Sequence[StepProgress], *, has_labels: bool = False) -> float:
    """Return how much of a search is done, in [0, 1]; 1 exactly when it has succeeded.

    A job about one architecture has no rounds: it is as far as its steps.

    Args:
        search_state: Its state.
        num_rounds: T.
        steps: All there are so far.
        has_labels: Whether it trains architectures by themselves.
    """
    if search_state == "succeeded":
        return 1.0
    if not num_rounds:
        return min(sum(step.fraction for step in steps) / max(len(steps), 1), 0.999)
    total = TRAINING_WEIGHT * stage_progress(steps, "train_supernet", None)
    for round_index in range(num_rounds):
        total += (1.0 - TRAINING_WEIGHT) / num_rounds * round_progress(round_index, steps, has_labels=has_labels)
    return min(total, 0.999)


def round_progress(round_index: int, steps: Sequence[StepProgress], *, has_labels: bool = False) -> float:
    """Return how much of one round is done, in [0, 1]."""
    if not has_labels:
        return sum(weight * stage_progress(steps, kind, round_index) for kind, weight in ROUND_WEIGHTS.items())
    done = {kind: stage_progress(steps, kind, round_index) for kind in LABELLED_ROUND_WEIGHTS}
    if any(step.kind == "reevaluate_shard" and step.round_index == round_index for step in steps):
        done["train_standalone"] = 1.0  # also where the round had none to train
    return sum(weight * done[kind] for kind, weight in LABELLED_ROUND_WEIGHTS.items())


def round_state(round_index: int, steps: Sequence[StepProgress], *, is_finished: bool) -> str:
    """Return what a round is doing: pending, one of the phases, or done."""
    if is_finished:
        return "done"
    inside = [step for step in steps if step.round_index == round_index]
    open_steps = [step for step in inside if step.state != "done"] or inside
    return _PHASE_OF_KIND[open_steps[-1].kind] if open_steps else "pending"


def eta_s(now: dt.datetime, fraction: float, steps: Sequence[StepProgress]) -> float | None:
    """Return the seconds that are left if work goes on at its rate so far; None while that is unknown.

    Only time in which a worker was at the search counts, so a night between two halves does not.
    """
    if fraction < MIN_PROGRESS_FOR_ETA:
        return None
    running_s = working_time_s(now, steps)
    return running_s * (1.0 - fraction) / fraction if running_s > 0 else None


def working_time_s(now: dt.datetime, steps: Sequence[StepProgress]) -> float:
    """Return the seconds in which at least one worker was at a step."""
    spans = sorted(
        (step.started_at, step.finished_at or now)
        for step in steps
        if step.started_at is not None and (step.finished_at is not None or step.state == "leased")
    )
    total, reached = 0.0, None
    for start, end in spans:
        begin = start if reached is None or start > reached else reached
        if end > begin:
            total += (end - begin).total_seconds()
            reached = end
    return total


def stage_progress(steps: Sequence[StepProgress], kind: str, round_index: int | None) -> float:
    """Return how much of all steps of a kind is done, in [0, 1]; 0 while there are none."""
    fractions = [step.fraction for step in steps if step.kind == kind and step.round_index == round_index]
    return sum(fractions) / len(fractions) if fractions else 0.0
