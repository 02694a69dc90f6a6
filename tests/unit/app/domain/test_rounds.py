"""The schedule of rounds, what is preserved, and the subspace that follows."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.rounds import (
    Reevaluated,
    default_architecture,
    first_subspace,
    next_subspace,
    round_segments,
    select_preserved,
)
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import preset

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")


def resolved(**changes: Any) -> SearchConfig:
    return from_preset("paper", changes).resolved(FAIRNAS)


def test_the_papers_initial_architecture_is_all_k3e6() -> None:
    assert FAIRNAS.readable(default_architecture(FAIRNAS)) == " ".join(["K3E6"] * 19)


def test_a_space_without_k3e6_begins_with_its_last_choices() -> None:
    assert default_architecture(MACRO) == (2,) * 8


def test_the_papers_schedule() -> None:
    assert round_segments(resolved()) == (tuple(range(7)), tuple(range(7, 13)), tuple(range(13, 19)))


def test_back_to_front() -> None:
    segments = round_segments(resolved(segment_order="back_to_front"))
    assert segments == (tuple(range(13, 19)), tuple(range(7, 13)), tuple(range(7)))


@given(st.permutations(range(19)), st.sets(st.integers(1, 18), min_size=1, max_size=6), st.integers(2, 64))
def test_no_cell_is_searched_twice_in_a_row(cells: list[int], cuts: set[int], num_rounds: int) -> None:
    """L_t and L_{t+1} are disjoint, also where the segments come around."""
    segments = tuple(tuple(cells[a:b]) for a, b in pairwise([0, *sorted(cuts), 19]))
    for order in ("front_to_back", "back_to_front"):
        config = SearchConfig(segments=segments, num_rounds=num_rounds, segment_order=order)
        schedule = round_segments(config)
        assert len(schedule) == num_rounds
        assert all(not set(a) & set(b) for a, b in pairwise(schedule))
        assert set().union(*schedule[: len(segments)]) == set(range(19)) or num_rounds < len(segments)


def test_rounds_beyond_the_segments_come_around() -> None:
    segments = round_segments(resolved(num_rounds=5))
    assert segments[3:] == segments[:2]


def test_a_configuration_must_be_resolved() -> None:
    with pytest.raises(AssertionError, match="resolved"):
        round_segments(SearchConfig())
    with pytest.raises(AssertionError, match="resolved"):
        round_segments(SearchConfig(segments=((0,),)))
    with pytest.raises(AssertionError, match="resolved"):
        first_subspace(FAIRNAS, SearchConfig())


def reevaluated(index: int, predicted: float, sampled: float) -> Reevaluated:
    return Reevaluated(index, (index,), predicted, sampled)


def test_preserved_are_the_best_reevaluated() -> None:
    candidates = [
        reevaluated(0, 0.9, 0.5),
        reevaluated(1, 0.8, 0.7),
        reevaluated(2, 0.1, 0.6),
        reevaluated(3, 0.7, 0.7),
    ]
    assert [r.index for r in select_preserved(candidates, 3)] == [1, 3, 2]


def test_equal_accuracies_are_ordered_by_prediction_then_row() -> None:
    candidates = [reevaluated(9, 0.5, 0.7), reevaluated(4, 0.5, 0.7), reevaluated(7, 0.6, 0.7)]
    for order in (candidates, candidates[::-1]):
        assert [r.index for r in select_preserved(order, 9)] == [7, 4, 9]


def test_first_and_following_subspaces() -> None:
    config = resolved()
    first = first_subspace(FAIRNAS, config)
    assert (first.size, first.base, first.super_cell) == (6**7, (3,) * 19, None)
    preserved = [first.architecture(i) for i in range(6)]
    second = next_subspace(FAIRNAS, config, 0, preserved)
    assert second is not None
    assert second.factor_sizes == (6,) * 7
    assert second.segment == tuple(range(7, 13))
    third = next_subspace(FAIRNAS, config, 1, [second.architecture(i) for i in range(6)])
    assert third is not None
    assert next_subspace(FAIRNAS, config, 2, [third.architecture(0)]) is None


def test_the_initial_architecture_of_the_request() -> None:
    assert first_subspace(FAIRNAS, resolved(initial_architecture="0" * 19)).base == (0,) * 19
