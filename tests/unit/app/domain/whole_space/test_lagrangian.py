"""Multipliers against a grid search of the dual."""

import itertools

import numpy as np

from app.domain.whole_space.lagrangian import multipliers

SIZES = (3, 2, 4, 3)


def random_tables(seed):
    """Scores [L, n], -inf where a cell has no such choice, and two costs [2, L, n] above each cell's smallest."""
    rng = np.random.default_rng(seed)
    score_Ln, cost_CLn = np.full((len(SIZES), max(SIZES)), -np.inf), np.zeros((2, len(SIZES), max(SIZES)))
    for cell_index, size in enumerate(SIZES):
        score_Ln[cell_index, :size] = rng.normal(0, 1, size)
        cost_Cn = rng.random((2, size))
        cost_CLn[:, cell_index, :size] = cost_Cn - cost_Cn.min(1, keepdims=True)
    return score_Ln, cost_CLn


def test_the_multipliers_nearly_minimise_the_dual():
    score_Ln, cost_CLn = random_tables(5)
    slack_C = 0.3 * cost_CLn.max(2).sum(1)

    def dual(multiplier_C):
        return multiplier_C @ slack_C + (score_Ln - np.tensordot(multiplier_C, cost_CLn, 1)).max(1).sum()

    grid = np.linspace(0, 8, 81)
    smallest = min(dual(np.array(pair)) for pair in itertools.product(grid, grid))
    found_C = multipliers(score_Ln, cost_CLn, slack_C)
    assert (found_C >= 0).all()
    assert smallest - 0.05 < dual(found_C) < smallest + 0.05 * (dual(np.zeros(2)) - smallest)


def test_a_limit_that_excludes_nothing_gets_no_weight():
    score_Ln, cost_CLn = random_tables(6)
    score_Ln = score_Ln + 10 * cost_CLn[0]
    weights_C = multipliers(score_Ln, cost_CLn, np.array([0.3, 1.5]) * cost_CLn.max(2).sum(1))
    assert weights_C[0] > 0
    assert weights_C[1] == 0


def test_costs_that_do_not_vary_and_equal_scores_are_no_trouble():
    weights_C = multipliers(np.zeros((3, 2)), np.zeros((2, 3, 2)), np.array([0.0, 1.0]))
    assert np.isfinite(weights_C).all()
    assert multipliers(np.zeros((3, 2)), np.zeros((0, 3, 2)), np.zeros(0)).shape == (0,)
