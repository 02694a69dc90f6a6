"""Answers over a whole space, against a scan of it by the full predictor."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest

from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import ArchiveConfig, prepared_model
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor, Candidates, WholeSpaceModel, with_each_choice

SIZES = (4, 3, 4, 3, 4, 3)
QUICK = ArchiveConfig(num_limits=120, num_enumerated=12, num_proposed=60, num_elites=4, num_predictions=20_000)


def random_gcn(sizes, seed):
    """A network whose function is far from additive: its units switch on and off within the space."""
    rng = np.random.default_rng(seed)
    bits = tuple(np.eye(n, dtype=np.float32) for n in sizes)
    return HammingGCN(
        bits,
        rng.normal(0, 1, (24, sum(sizes))),
        rng.normal(0, 0.3, 24),
        rng.normal(0, 0.3, (12, 24)),
        rng.normal(0, 0.3, 12),
        rng.normal(0, 0.05, 12),
        np.array(0.7),
    )


@cache
def model(gcn_weight, seed=0):
    rng = np.random.default_rng(seed)
    costs = {
        "multi_adds": AdditiveFunction(5, tuple(rng.integers(0, 100, n).astype(float) for n in SIZES)),
        "latency_ms/phone": AdditiveFunction(0.5, tuple(rng.uniform(0, 2, n) for n in SIZES)),
    }
    score = AdditiveFunction(
        0.7, tuple(rng.normal(0, 0.01, n) + t / 5000 for n, t in zip(SIZES, costs["multi_adds"].tables, strict=True))
    )
    return prepared_model(BlendedPredictor(score, random_gcn(SIZES, seed), gcn_weight), costs, seed, QUICK)


def everything():
    return np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1)


def random_limits(asked, rng):
    names = [name for name in asked.costs if rng.random() < 0.7] or ["multi_adds"]
    ends = {name: (asked.costs[name].minimum, asked.costs[name].maximum) for name in names}
    return {name: float(rng.uniform(*ends[name])) for name in names}


@pytest.mark.parametrize("gcn_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_is_within_the_issues_margin_of_a_scan_by_the_full_predictor(gcn_weight, seed):
    asked, rng = model(gcn_weight, seed), np.random.default_rng(9)
    choices_NL = everything()
    predicted_N = asked.predictor.predict(choices_NL)
    cost_of = {name: cost.of(choices_NL) for name, cost in asked.costs.items()}
    for _ in range(40):
        limits = random_limits(asked, rng)
        within_N = np.logical_and.reduce([cost_of[name] <= limit for name, limit in limits.items()])
        answer = asked.best(limits, 5)
        if not within_N.any():
            assert not len(answer.predicted_N)
            assert answer.is_exact
            continue
        assert answer.predicted_N[0] >= predicted_N[within_N].max() - 0.0005
        assert answer.is_exact == (gcn_weight == 0)


@pytest.mark.parametrize("gcn_weight", [0.0, 0.5])
def test_an_answer_is_within_its_limits_sorted_distinct_and_predicted_by_the_full_predictor(gcn_weight):
    asked = model(gcn_weight)
    limits = {"multi_adds": 350.0, "latency_ms/phone": 8.0}
    answer = asked.best(limits, 50)
    assert len(answer.predicted_N) == 50
    assert (np.diff(answer.predicted_N) <= 0).all()
    assert len(np.unique(answer.choices_NL, axis=0)) == 50
    np.testing.assert_allclose(answer.predicted_N, asked.predictor.predict(answer.choices_NL), atol=1e-6)
    for name, limit in limits.items():
        np.testing.assert_array_equal(answer.costs[name], asked.costs[name].of(answer.choices_NL))
        assert answer.costs[name].max() <= limit


def test_steps_exchange_two_cells_where_one_change_alone_is_not_possible():
    """Under the limit the budget of one unit must move from cell 0 to cell 1; both neighbours on the way are worse."""
    cost = AdditiveFunction(0.0, (np.array([0.0, 1.0]), np.array([0.0, 1.0])))
    score = AdditiveFunction(0.0, (np.array([0.0, 1.0]), np.array([0.0, 2.0])))
    nothing = Candidates(np.zeros((0, 2), dtype=np.uint8), np.zeros(0))
    asked = WholeSpaceModel(BlendedPredictor(score), {"cost": cost}, score, nothing)
    start = np.array([[1, 0]], dtype=np.uint8)
    found = asked.improved(Candidates(start, score.of(start)), [1.0], 1)
    assert found.choices_NL[0].tolist() == [0, 1]
    assert (cost.of(found.choices_NL) <= 1).all()


def test_each_choice_of_each_cell():
    around = with_each_choice(np.array([[0, 1]], dtype=np.uint8), (2, 3))
    assert around.tolist() == [[0, 1], [1, 1], [0, 0], [0, 1], [0, 2]]


def test_candidates_are_distinct_and_ties_lexicographic():
    choices = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=np.uint8)
    found = Candidates.of([(choices, np.array([0.5, 0.5, 0.5, 0.1]))])
    assert found.choices_NL.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_unusable_models_and_queries_are_refused():
    asked = model(0.0)
    with pytest.raises(ValueError, match="not on params"):
        asked.best({"params": 3.0}, 1)
    with pytest.raises(ValueError, match="limits, each a number"):
        asked.best({"multi_adds": math.nan}, 1)
    with pytest.raises(ValueError, match="no GCN"):
        BlendedPredictor(asked.predictor.additive, None, 0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        dataclasses.replace(asked.predictor, gcn_weight=1.5)
    with pytest.raises(ValueError, match="the GCN is of choices"):
        BlendedPredictor(asked.predictor.additive, random_gcn((2, 2), 0), 0.5)
    with pytest.raises(ValueError, match="proposal is of choices"):
        dataclasses.replace(asked, proposal=AdditiveFunction(0.0, (np.zeros(2),)))


@pytest.mark.parametrize(("num_units", "num_steps"), [(128, 4), (256, 4), (512, 1), (2048, 1)])
def test_a_query_by_a_wider_gcn_takes_fewer_steps(num_units, num_steps):
    sizes, rng = (6,) * 19, np.random.default_rng(0)
    gcn = HammingGCN(
        tuple(np.eye(6, 3, dtype=np.float32) for _ in sizes),
        rng.normal(size=(num_units, 57)),
        np.zeros(num_units),
        np.zeros((num_units, num_units)),
        np.zeros(num_units),
        np.zeros(num_units),
        np.array(0.5),
    )
    score = AdditiveFunction(0.5, (np.zeros(6),) * 19)
    empty = Candidates(np.zeros((0, 19), dtype=np.uint8), np.zeros(0))
    assert WholeSpaceModel(BlendedPredictor(score, gcn, 0.5), {}, score, empty).num_steps == num_steps
