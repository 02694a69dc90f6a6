"""Preparation of a whole-space model: the proposal imitates, the archive holds what is best somewhere."""

import numpy as np
import pytest

from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import ArchiveConfig, fitted_proposal, near_front, prepared_model, random_limits
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor

SIZES = (4, 4, 4, 4)
CONFIG = ArchiveConfig(num_limits=80, num_enumerated=4, num_proposed=10, num_elites=3, num_predictions=4000)


def parts(seed=0, gcn_weight=0.5):
    rng = np.random.default_rng(seed)
    cost = AdditiveFunction(1.0, tuple(np.arange(4.0) + rng.random(4) for _ in SIZES))
    score = AdditiveFunction(0.6, tuple(0.01 * np.arange(4.0) + rng.normal(0, 0.004, 4) for _ in SIZES))
    shapes = ((16, 16), (16,), (8, 16), (8,), (8,), ())
    gcn = HammingGCN(tuple(np.eye(4) for _ in SIZES), *(rng.normal(0, 0.3, shape) for shape in shapes))
    return BlendedPredictor(score, gcn, gcn_weight), {"cost": cost}


def test_the_same_seed_gives_the_same_model():
    predictor, costs = parts()
    first, again = (prepared_model(predictor, costs, 5, CONFIG) for _ in range(2))
    np.testing.assert_array_equal(first.archive.choices_NL, again.archive.choices_NL)
    np.testing.assert_array_equal(first.proposal.entries, again.proposal.entries)


def test_the_archive_holds_the_best_under_any_limit_of_a_small_space():
    predictor, costs = parts()
    model = prepared_model(predictor, costs, 5, CONFIG)
    choices_NL = np.stack(np.unravel_index(np.arange(4**4), SIZES), axis=1)
    predicted_N, cost_N = predictor.predict(choices_NL), costs["cost"].of(choices_NL)
    archived_N = costs["cost"].of(model.archive.choices_NL)
    for limit in np.linspace(cost_N.min(), cost_N.max(), 30):
        best_archived = model.archive.predicted_N[archived_N <= limit].max()
        assert best_archived >= predicted_N[cost_N <= limit].max() - 0.02
    assert best_archived == pytest.approx(predicted_N.max(), abs=1e-6)
    assert len(model.archive) < len(choices_NL) / 2


def test_the_proposal_of_an_additive_predictor_is_the_predictor():
    predictor, costs = parts(gcn_weight=0.0)
    model = prepared_model(predictor, costs, 5)
    assert model.proposal is predictor.additive
    assert not len(model.archive)
    fit = fitted_proposal(predictor, tuple(costs.values()), np.random.default_rng(0))
    choices_NL = np.random.default_rng(1).integers(0, 4, (50, 4))
    np.testing.assert_allclose(fit.of(choices_NL), predictor.predict(choices_NL), atol=1e-4)


def test_samples_near_the_front_are_better_than_others_of_their_cost():
    predictor, costs = parts()
    score, cost = predictor.additive, costs["cost"]
    near_NL = near_front(score, (cost,), 400, np.random.default_rng(0))
    anywhere_NL = np.random.default_rng(1).integers(0, 4, (4000, 4))
    near_cost_N, cost_N = cost.of(near_NL), cost.of(anywhere_NL)
    assert near_cost_N.std() > 0.5 * cost_N.std()
    slope, level = np.polyfit(cost_N, score.of(anywhere_NL), 1)
    assert (score.of(near_NL) > slope * near_cost_N + level).mean() > 0.8


def test_random_limits_limit_some_costs_and_can_be_met():
    predictor, costs = parts()
    limit_MC = random_limits(predictor.additive, (costs["cost"],) * 2, 200, np.random.default_rng(0))
    assert limit_MC.shape == (200, 2)
    assert 0.4 < np.isinf(limit_MC).mean() < 0.6
    assert (limit_MC >= costs["cost"].minimum).all()


def test_a_space_without_costs_has_a_model():
    predictor, _ = parts()
    model = prepared_model(predictor, {}, 0, CONFIG)
    choices_NL = np.stack(np.unravel_index(np.arange(4**4), SIZES), axis=1)
    assert model.best({}, 1).predicted_N[0] == pytest.approx(predictor.predict(choices_NL).max(), abs=1e-6)


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ArchiveConfig(num_elites=0)
