"""A query reduced to what matters: limits that bind and choices that fit."""

import math

import numpy as np

from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.limited_score import LimitableScore

SCORE = AdditiveFunction(0.5, (np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0])))
COST = AdditiveFunction(10.0, (np.array([0.0, 1.0, 6.0]), np.array([2.0, 3.0])))
OTHER = AdditiveFunction(0.0, (np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0])))


def prepared():
    return LimitableScore.of(SCORE, (COST, OTHER))


def test_limits_that_exclude_nothing_are_left_out():
    for limits in ([None, None], [math.inf, 4.0], [19.0, 99.0]):
        problem = prepared().under(limits)
        assert problem.slack_C.size == 0
        assert [len(scores) for scores in problem.scores] == [3, 2]


def test_choices_that_cannot_fit_are_left_out():
    problem = prepared().under([14.0, None])
    assert [rows.tolist() for rows in problem.kept] == [[0, 1], [0, 1]]
    assert problem.scores[0].tolist() == [1.0, 2.0]


def test_a_limit_that_binds_no_more_without_them_is_left_out_too():
    """Without the third choice no architecture takes more than 14, so the limit of 14 has nothing left to exclude."""
    assert prepared().under([14.0, None]).slack_C.size == 0
    assert prepared().under([13.0, None]).slack_C.tolist() == [1.0]


def test_limits_that_no_architecture_meets():
    assert prepared().under([11.5, None]) is None
    assert prepared().under([12.0, None]) is not None
    assert prepared().under([None, 1.0]) is None


def test_a_cell_of_which_every_choice_is_excluded_by_one_limit_or_the_other():
    assert prepared().under([12.0, 2.0]) is None


def test_several_limits_get_their_weighted_sum_as_a_further_bound():
    rng = np.random.default_rng(0)
    costs = tuple(AdditiveFunction(0.0, tuple(rng.random(5) for _ in range(8))) for _ in range(2))
    score = AdditiveFunction(0.0, tuple(sum(cost.tables[cell] for cost in costs) for cell in range(8)))
    problem = LimitableScore.of(score, costs).under([cost.minimum + 1.5 for cost in costs])
    first, second, both = problem.bounds
    assert [np.count_nonzero(bound.weights_C) for bound in (first, second, both)] == [1, 1, 2]
    limits_21 = problem.slack_C[:, None]
    assert both.of(0, limits_21)[0] < min(first.of(0, limits_21)[0], second.of(0, limits_21)[0])


def test_bounds_on_single_limits_are_built_once():
    score = prepared()
    first, again = (score.under([13.0, None]).bounds[0] for _ in range(2))
    assert first.suffix_LB is again.suffix_LB
