"""A search as it was put together: one digest for as long as nothing but the clock has moved.

What makes a kept view outdated is in the integration tests.
"""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from app.schemas.examples import ROUND, SEARCH
from app.schemas.search import SearchView
from app.services.view_cache import KeptView


def kept(**changes: Any) -> KeptView:
    return KeptView.of(SearchView.model_validate({**SEARCH, **changes}), stamp="1")


def test_the_time_that_is_left_is_no_news() -> None:
    assert kept(eta_s=95.0).digest == kept(eta_s=None).digest == kept(eta_s=12.5).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"progress": 0.65},
        {"state": "cancelling"},
        {"error": "x"},
        {"rounds": [{**ROUND, "num_sampled": 301}]},
        {"steps": []},
    ],
)
def test_everything_else_is(changes: dict[str, Any]) -> None:
    assert kept(**changes).digest != kept().digest


def test_json_has_the_time_that_is_left() -> None:
    assert json.loads(kept(eta_s=12.5).json)["eta_s"] == 12.5
    assert SearchView.model_validate_json(kept().json) == SearchView.model_validate(SEARCH)


@pytest.mark.parametrize(
    ("state", "started_at", "is_kept"),
    [("queued", None, True), ("queued", "2026-01-01T00:00:00Z", False), ("succeeded", "2026-01-01T00:00:00Z", False)],
)
def test_only_a_search_that_has_not_begun_is_kept_for_minutes(
    state: str, started_at: str | None, is_kept: bool
) -> None:
    fresh = kept(state=state, started_at=started_at)
    assert fresh.is_of("1")
    assert not fresh.is_of("2")
    assert replace(fresh, made_at=time.monotonic() - 20).is_of("1") == is_kept
