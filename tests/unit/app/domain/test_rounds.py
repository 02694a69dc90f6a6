"""The schedule of rounds, what is preserved, and the subspace that follows."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.latency import LatencyTable
from app.domain.lookup_table import LookupTable
from app.domain.multi_adds import cost_functions, count
from app.domain.rounds import (
    Reevaluated,
    default_architecture,
    first_subspace,
    max_table_rows,
    next_subspace,
    num_standalone_of,
    reevaluation_candidates,
    round_budgets,
    round_segments,
    select_preserved,
)
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import preset
from app.domain.subspace import Subspace

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")
# a phone that is slower at wide kernels than at many channels
_PHONE = LatencyTable(2.5, tuple((0.1, 0.3 + 0.01 * cell, 0.7, 0.2, 0.4, 0.8) for cell in range(19)))
PHONE: dict[str, Any] = {"device_latencies": {"phone": _PHONE}}
PHONE_RANGE_MS = (_PHONE.function.minimum, _PHONE.function.maximum)


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


def test_no_table_is_larger_than_foretold() -> None:
    """The paper's three rounds: 6^7 nodes, then a super-cell of 6 and the 6 cells of a segment."""
    fairnas = preset("fairnas")
    assert max_table_rows(fairnas, from_preset("paper", {}).resolved(fairnas)) == 3 * 279_936
    one_round = from_preset("quick", {"num_rounds": 1, "num_preserved": 3}).resolved(fairnas)
    assert max_table_rows(fairnas, one_round) == 6**7


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


@pytest.mark.parametrize(
    ("weight", "order"), [(1.0, [1, 0, 2]), (0.9, [1, 0, 2]), (0.5, [0, 1, 2]), (0.1, [0, 2, 1]), (0.0, [0, 2, 1])]
)
def test_prediction_and_reevaluation_can_be_weighed(weight: float, order: list[int]) -> None:
    candidates = [
        Reevaluated(0, (0,) * 19, predicted_accuracy=0.7, sampled_accuracy=0.6),
        Reevaluated(1, (1,) * 19, predicted_accuracy=0.5, sampled_accuracy=0.65),
        Reevaluated(2, (2,) * 19, predicted_accuracy=0.6, sampled_accuracy=0.5),
    ]
    assert [r.index for r in select_preserved(candidates, 3, reevaluation_weight=weight)] == order


@pytest.mark.parametrize(("num", "expected"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (32, [11, 11, 10]), (33, [11, 11, 11])])
def test_rounds_share_the_true_labels(num: int, expected: list[int]) -> None:
    config = resolved(num_standalone=num)
    assert [num_standalone_of(config, round_index) for round_index in range(3)] == expected


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


def ranked(architectures: list[tuple[int, ...]], accuracies: list[float]) -> list[Reevaluated]:
    return [
        Reevaluated(index, m, accuracy, accuracy)
        for index, (m, accuracy) in enumerate(zip(architectures, accuracies, strict=True))
    ]


def test_without_limits_there_are_no_budgets() -> None:
    assert round_budgets(FAIRNAS, resolved(), 0) == ()


def test_after_all_cells_are_searched_the_budget_is_the_limit() -> None:
    config = resolved(target_madds=[400, 300.5], target_params=[4], target_latency_ms={"phone": [7.1]}, **PHONE)
    assert [maximum for _, maximum in round_budgets(FAIRNAS, config, 2)] == [400e6, 300.5e6, 4e6, pytest.approx(7.1)]


def test_a_limit_at_exactly_an_architectures_cost_allows_it() -> None:
    # 266.604361 * 1e6 is a little below 266604361
    assert 266.604361 * 1e6 < 266_604_361
    ((_, maximum),) = round_budgets(FAIRNAS, resolved(target_madds=[266.604361]), 2)
    assert maximum == 266_604_361


def test_no_limit_is_too_large() -> None:
    for round_index in range(3):
        budgets = round_budgets(FAIRNAS, resolved(target_madds=[1e303, 600], target_params=[1e303]), round_index)
        assert [cost.of([(5,) * 7 + (3,) * 12])[0] <= maximum for cost, maximum in budgets] == [True] * 3


def test_with_fewer_rounds_than_segments_a_limit_is_about_the_searched_cells() -> None:
    # 370.0M with the cheapest first seven cells, the others as in M_0
    with pytest.raises(ValueError, match=r"differs from M_0 only in the searched cells has 369.956M multi-adds"):
        resolved(target_madds=[360], num_rounds=1)
    ((_, maximum),) = round_budgets(FAIRNAS, resolved(target_madds=[400], num_rounds=1), 0)
    assert maximum == 400_000_000


def test_what_is_named_as_the_smallest_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="has") as refused:
        resolved(target_latency_ms={"phone": [4.3999999]}, **PHONE)
    named = float(str(refused.value).split(" has ")[1].split()[0])
    resolved(target_latency_ms={"phone": [named]}, **PHONE)


def test_a_budget_leaves_unsearched_cells_as_in_the_initial_architecture() -> None:
    ((of_multi_adds, smallest),) = round_budgets(FAIRNAS, resolved(target_madds=[247.129856]), 0)
    cheapest, next_to_it = (0,) * 7 + (3,) * 12, (1,) + (0,) * 6 + (3,) * 12
    assert of_multi_adds.of([cheapest])[0] == count(FAIRNAS, cheapest).multi_adds <= smallest
    assert count(FAIRNAS, next_to_it).multi_adds > smallest
    ((_, largest),) = round_budgets(FAIRNAS, resolved(target_madds=[1000]), 0)
    assert largest == pytest.approx(count(FAIRNAS, (5,) * 7 + (3,) * 12).multi_adds, abs=1)
    ((_, of_params),) = round_budgets(FAIRNAS, resolved(target_params=[100]), 0)
    assert of_params == pytest.approx(count(FAIRNAS, (5,) * 7 + (3,) * 12).params, abs=1)


@settings(max_examples=20)
@given(
    st.lists(st.floats(247.2, 557.0), min_size=1, max_size=3, unique=True),
    st.lists(st.floats(3.2, 6.0), max_size=1, unique=True),
    st.lists(st.floats(PHONE_RANGE_MS[0], PHONE_RANGE_MS[1]), max_size=1, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_every_round_keeps_an_architecture_for_each_limit(
    limits: list[float], params_limits: list[float], latency_limits: list[float], seed: int
) -> None:
    """Whatever the accuracies, the last table holds an architecture within each limit."""
    of_phone = {"target_latency_ms": {"phone": latency_limits}, **PHONE} if latency_limits else {}
    config = resolved(target_madds=limits, target_params=params_limits, num_reevaluated=20, num_sampled=100, **of_phone)
    generator = np.random.default_rng(seed)
    subspace: Subspace | None = first_subspace(FAIRNAS, config)
    for round_index in range(3):
        assert subspace is not None
        table = LookupTable.from_predictions(subspace, generator.random(subspace.size, dtype=np.float32))
        rows = reevaluation_candidates(table, config, round_index)
        assert len(rows) == len(set(rows)) >= 20
        assert rows[:20] == table.top(20).tolist()
        found = [Reevaluated(row, subspace.architecture(row), 0.5, generator.random()) for row in rows]
        budgets = round_budgets(FAIRNAS, config, round_index)
        preserved = select_preserved(found, config.num_preserved, budgets)
        assert preserved[0] == max(found, key=lambda r: r.sampled_accuracy)
        assert len(preserved) == config.num_preserved
        for cost, maximum in budgets:
            assert any(cost.of([r.architecture])[0] <= maximum for r in preserved)
        subspace = next_subspace(FAIRNAS, config, round_index, [r.architecture for r in preserved])
    for limit in limits:
        assert table.multi_adds.min() <= limit * 1e6
    for limit in params_limits:
        assert table.params.min() <= limit * 1e6
    for limit in latency_limits:
        assert table.subspace.sums(config.device_latencies["phone"].function).min() <= limit


def test_the_best_stays_first_when_budgets_take_places() -> None:
    big, small = (5,) * 19, (0,) * 19
    budget = cost_functions(FAIRNAS)["multi_adds"], 250e6
    kept = select_preserved(ranked([big, (4,) * 19, (3,) * 19, small], [0.9, 0.8, 0.7, 0.1]), 2, [budget])
    assert [r.architecture for r in kept] == [big, small]


@pytest.mark.parametrize(
    ("limits", "message"), [([200], "smallest architecture has 247.129856M"), ([300, 310, 320, 330, 340, 350], "to 7")]
)
def test_limits_that_cannot_be_kept_are_refused(limits: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolved(target_madds=limits)


def test_limits_on_parameters_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match=r"target_params 0.5 cannot be met: the smallest .* has 3.18908M"):
        resolved(target_params=[0.5])
    with pytest.raises(ValueError, match="from 2 to 3"):
        resolved(target_madds=[400], target_params=[4], num_preserved=2)


def test_limits_on_latencies_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of phone, 4, cannot be met: the smallest .* has 4.4 ms there"):
        resolved(target_latency_ms={"phone": [4]}, **PHONE)
    with pytest.raises(ValueError, match="from 2 to 3"):
        resolved(target_madds=[400], target_latency_ms={"phone": [7]}, num_preserved=2, **PHONE)
    with pytest.raises(ValueError, match="target_latency_ms names board, of which"):
        resolved(target_latency_ms={"phone": [7], "board": [7]}, **PHONE)
    with pytest.raises(ValueError, match="device_latencies has phone, for which"):
        resolved(**PHONE)
    shorter = LatencyTable(1.0, ((1.0, 2.0, 3.0),) * 8)
    with pytest.raises(ValueError, match="device_latencies of phone: fairnas has 19 cells, there are latencies of 8"):
        resolved(target_latency_ms={"phone": [7]}, device_latencies={"phone": shorter})
