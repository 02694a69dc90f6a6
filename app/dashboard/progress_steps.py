"""The way of a search as the steps that a person sees: training, the rounds, done."""

from dataclasses import dataclass
from typing import Literal

from app.schemas.search import SearchView

_DOING = {
    "pending": "waiting",
    "evaluating_subnetworks": "evaluating sub-networks",
    "fitting_gcn": "fitting the GCN",
    "retraining": "training architectures by themselves",
    "reevaluating": "re-evaluating the best",
    "fitting_space": "fitting the whole space",
    "done": "done",
}


@dataclass(frozen=True)
class ProgressStep:
    """A step of a search.

    Attributes:
        name: What it is called.
        doing: What happens in it now.
        progress: How much of it is done, in [0, 1].
        state: Whether it is done, under way (or where the search stopped), or to come.
    """

    name: str
    doing: str
    progress: float
    state: Literal["done", "now", "pending"]


def progress_steps(search: SearchView) -> list[ProgressStep]:
    """Return the steps of a search, in order."""
    if search.kind != "search":
        return [ProgressStep(search.kind.capitalize(), "one step", search.progress, _state(search.progress, True))]
    training = search.training_progress
    steps = [ProgressStep("Training", "supernet", training, _state(training, search.state != "queued"))]
    for one in search.rounds:
        has_begun = one.state != "pending"
        steps.append(
            ProgressStep(
                f"Round {one.round_index}",
                _DOING[one.state],
                one.progress,
                "done" if one.state == "done" else _state(min(one.progress, 0.99), has_begun),
            )
        )
    return steps


def _state(progress: float, has_begun: bool) -> Literal["done", "now", "pending"]:
    if progress >= 1.0:
        return "done"
    return "now" if has_begun else "pending"
