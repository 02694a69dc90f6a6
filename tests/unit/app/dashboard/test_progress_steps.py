"""The way of a search as people see it, in every state that a search and its rounds can have."""

from typing import Any, get_args

import pytest

from app.dashboard.progress_steps import progress_steps
from app.schemas.examples import ROUND, SEARCH
from app.schemas.search import RoundView, SearchView


def steps_of(**changes: Any) -> list[tuple[str, float, str]]:
    search = SearchView.model_validate({**SEARCH, **changes})
    return [(step.doing, step.progress, step.state) for step in progress_steps(search)]


@pytest.mark.parametrize("state", get_args(RoundView.model_fields["state"].annotation))
def test_whatever_a_round_does_has_words(state: str) -> None:
    _, (doing, _, shown) = steps_of(rounds=[{**ROUND, "state": state}])
    assert "_" not in doing
    assert shown == {"pending": "pending", "done": "done"}.get(state, "now")


def test_a_round_whose_steps_are_done_is_not_over_before_it_says_so() -> None:
    """What follows them, the advance to the next round, may still fail."""
    _, *rounds = steps_of(rounds=[{**ROUND, "progress": 1.0}, {**ROUND, "state": "pending", "progress": 0.0}])
    assert [state for _, _, state in rounds] == ["now", "pending"]


@pytest.mark.parametrize(
    ("state", "training", "shown"),
    [("queued", 0.0, "pending"), ("running", 0.0, "now"), ("running", 0.5, "now"), ("failed", 1.0, "done")],
)
def test_the_training_begins_with_the_search(state: str, training: float, shown: str) -> None:
    assert steps_of(state=state, training_progress=training)[0] == ("supernet", training, shown)


@pytest.mark.parametrize(("progress", "shown"), [(0.0, "now"), (0.5, "now"), (1.0, "done")])
def test_a_job_is_one_step(progress: float, shown: str) -> None:
    assert steps_of(kind="export", rounds=[], progress=progress) == [("one step", progress, shown)]
