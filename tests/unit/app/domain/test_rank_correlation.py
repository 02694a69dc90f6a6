"""Kendall's tau against a direct count of concordant and discordant pairs."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.rank_correlation import kendall_interval, kendall_tau

VALUES = st.one_of(st.integers(0, 6).map(float), st.floats(0, 1))
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=40)


def counted_tau(first: list[float], second: list[float]) -> float | None:
    """Tau-b by the definition, in O(n^2)."""
    concordant = discordant = tied_first = tied_second = 0
    for (a, x), (b, y) in combinations(zip(first, second, strict=True), 2):
        product = ((a > b) - (a < b)) * ((x > y) - (x < y))
        concordant += product > 0
        discordant += product < 0
        tied_first += a == b
        tied_second += x == y
    total = len(first) * (len(first) - 1) // 2
    if tied_first == total or tied_second == total:
        return None
    return (concordant - discordant) / math.sqrt((total - tied_first) * (total - tied_second))


@given(PAIRS)
def test_equals_the_direct_count(pairs: list[tuple[float, float]]) -> None:
    first, second = [list(side) for side in zip(*pairs, strict=True)]
    expected, tau = counted_tau(first, second), kendall_tau(first, second)
    assert tau is expected is None or tau == pytest.approx(expected, abs=1e-12)


def test_a_large_list_equals_the_direct_count() -> None:
    first = [float((i * 7919) % 503) for i in range(600)]
    second = [float((i * 104729) % 101) + first[i] / 5 for i in range(600)]
    assert kendall_tau(first, second) == pytest.approx(counted_tau(first, second), abs=1e-12)


def test_ends_of_the_range() -> None:
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [2.0]), ([1, 1, 1], [1, 2, 3]), ([1, 2], [5, 5])])
def test_undefined(first: list[float], second: list[float]) -> None:
    assert kendall_tau(first, second) is None


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="same length"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="same length"):
        kendall_tau([[1, 2]], [[1, 2]])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        kendall_tau([1.0, value], [1.0, 2.0])


def test_an_interval_surrounds_the_tau_and_narrows_with_more_values() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for num in (10, 40, 160):
        first = rng.normal(size=num)
        second = first + rng.normal(size=num)
        tau, interval = kendall_tau(first, second), kendall_interval(first, second)
        assert tau is not None
        assert interval is not None
        assert -1 <= interval[0] < tau < interval[1] <= 1
        shuffled = rng.permutation(num)
        assert interval == kendall_interval(first[shuffled], np.exp(second)[shuffled]), (
            "the same order, the same interval"
        )
        widths.append(interval[1] - interval[0])
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_nine_in_ten_intervals_hold_the_truth() -> None:
    """Two normal variables with correlation r have a tau of 2/pi arcsin(r)."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        first = rng.normal(size=30)
        interval = kendall_interval(first, 0.6 * first + 0.8 * rng.normal(size=30))
        assert interval is not None
        held += interval[0] <= 2 / math.pi * math.asin(0.6) <= interval[1]
    assert 165 <= held <= 195


def test_an_interval_of_nothing_or_of_ties() -> None:
    assert kendall_interval([1.0, 2.0], [1.0, 2.0]) is None
    assert kendall_interval([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert kendall_interval([1, 2, 3, 4], [10, 20, 30, 40]) is None, "too few to say"


@pytest.mark.parametrize(("num", "most"), [(5, 0.6), (12, 0.98), (100, 1.0)])
def test_full_agreement_of_few_values_leaves_doubt(num: int, most: float) -> None:
    for sign, (near, far) in ((1, (1, 0)), (-1, (0, 1))):
        interval = kendall_interval(np.arange(num), sign * np.arange(num))
        assert interval is not None
        assert interval[1 - near] * sign < most
        assert interval[1 - far] == sign
