"""Additive functions: sums that do not depend on their order, and survive being stored."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.whole_space.additive_function import AdditiveFunction

tables = st.lists(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=4), min_size=1, max_size=5)


@given(tables, st.floats(-1e3, 1e3, allow_subnormal=False))
def test_sums_are_exact_in_any_order(lists, constant):
    function = AdditiveFunction(constant, tuple(map(np.array, lists)))
    for choices in itertools.islice(itertools.product(*(range(len(t)) for t in lists)), 8):
        terms = [function.constant, *(t[c] for t, c in zip(function.tables, choices, strict=True))]
        assert sum(terms) == sum(reversed(terms)) == math.fsum(terms) == function.of([choices])[0]


@given(tables, st.floats(-1e3, 1e3, allow_subnormal=False))
def test_rounding_is_finer_than_float_addition_and_happens_once(lists, constant):
    function = AdditiveFunction(constant, tuple(map(np.array, lists)))
    largest = abs(constant) + sum(max(map(abs, t)) for t in lists)
    for given_table, table in zip(lists, function.tables, strict=True):
        # at the lower end of float64's range no normal number is finer than the grid
        assert np.abs(table - given_table).max() <= max(largest * 2.0**-51, 2.0**-1021)
    again = AdditiveFunction.from_entries(function.entries, function.factor_sizes)
    assert np.array_equal(again.entries, function.entries)
    assert again.grid == function.grid


def test_a_sum_that_is_rounded_up_to_a_power_of_two_is_stored_unchanged():
    function = AdditiveFunction(0.5 + 2.0**-53, (np.array([0.5 - 2.0**-54]),))
    again = AdditiveFunction.from_entries(function.entries, (1,))
    assert np.array_equal(again.entries, function.entries)


def test_integers_stay_as_they_are():
    function = AdditiveFunction(247_129_856, (np.array([1.0, 557_405_696.0]), np.array([3.0])))
    assert function.constant == 247_129_856
    assert function.tables[0].tolist() == [1.0, 557_405_696.0]
    assert (function.minimum, function.maximum) == (247_129_860, 804_535_555)


def test_the_whole_space_is_listed_with_the_first_cell_most_significant():
    function = AdditiveFunction(1.0, (np.array([0.0, 10.0]), np.array([0.0, 1.0, 2.0])))
    assert function.whole_space().tolist() == [1, 2, 3, 11, 12, 13]
    assert function.of(np.array([[1, 2], [0, 0]])).tolist() == [13, 1]


@pytest.mark.parametrize(
    ("constant", "given_tables"),
    [(0.0, ()), (0.0, (np.zeros(0),)), (0.0, (np.zeros((2, 2)),)), (math.nan, (np.zeros(1),)), (0.0, ([math.inf],))],
)
def test_unusable_tables_are_refused(constant, given_tables):
    with pytest.raises(ValueError, match=r"must be finite|one vector per cell"):
        AdditiveFunction(constant, given_tables)


def test_a_wrong_number_of_entries_is_refused():
    with pytest.raises(ValueError, match="4 entries"):
        AdditiveFunction.from_entries(np.zeros(3), (1, 2))


entries = st.lists(st.lists(st.integers(0, 10**7), min_size=1, max_size=4), min_size=1, max_size=20)


@given(entries, st.integers(1, 10**7), st.data())
def test_a_decimal_limit_is_met_by_what_costs_exactly_that(lists, base, data):
    """Entries are multiples of 0.0001; whole numbers of these say what is exact."""
    function = AdditiveFunction(base / 1e4, tuple(np.array(t) / 1e4 for t in lists))
    choices = [data.draw(st.integers(0, len(t) - 1)) for t in lists]
    exact = base + sum(t[c] for t, c in zip(lists, choices, strict=True))
    value = function.of([choices])[0]
    assert value <= function.with_room(exact / 1e4)
    assert value > function.with_room((exact - 1) / 1e4)
    assert function.shortest(value) == exact / 1e4
