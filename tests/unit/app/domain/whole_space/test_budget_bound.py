"""Bounds that are never too low, and as tight as their bins."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.whole_space.budget_bound import BudgetBound

SIZES = (3, 2, 4, 3)


def random_tables(seed, num_costs):
    rng = np.random.default_rng(seed)
    scores = [rng.normal(0, 1, n) for n in SIZES]
    costs = [rng.random((num_costs, n)) for n in SIZES]
    return scores, [cost - cost.min(1, keepdims=True) for cost in costs]


def best_completion(scores, costs, remaining_C, first):
    values = [
        sum(scores[cell][c] for cell, c in enumerate(rest, first))
        for rest in itertools.product(*(range(n) for n in SIZES[first:]))
        if (
            sum((costs[cell][:, c] for cell, c in enumerate(rest, first)), np.zeros(len(remaining_C))) <= remaining_C
        ).all()
    ]
    return max(values, default=-np.inf)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(3, 300), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_no_completion_within_the_budget_beats_its_bound(seed, num_costs, num_bins, tightness):
    scores, costs = random_tables(seed, num_costs)
    slack_C = tightness * sum(cost.max(1) for cost in costs)
    weights_C = np.random.default_rng(seed).random(num_costs) + 0.01
    bound = BudgetBound.build(scores, costs, slack_C, weights_C, num_bins)
    for first in range(len(SIZES) + 1):
        for share in (0.0, 0.3, 1.0):
            remaining_C = share * slack_C
            assert (
                bound.of(first, remaining_C[:, None])[0] >= best_completion(scores, costs, remaining_C, first) - 1e-12
            )


def test_with_fine_bins_the_bound_of_one_limit_is_the_best_completion():
    scores, costs = random_tables(1, 1)
    slack_1 = np.array([1.0])
    bound = BudgetBound.build(scores, costs, slack_1, np.ones(1), 200_000)
    for first in range(len(SIZES)):
        best = best_completion(scores, costs, slack_1, first)
        assert bound.of(first, slack_1[:, None])[0] == pytest.approx(best, abs=1e-12)
