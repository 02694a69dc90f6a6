"""Predictions as normal scores of their ranks: monotone, exact there and back, also beyond the ends."""

import numpy as np
import pytest

from worker.nas.rank_scale import RankScale


def test_scores_are_those_of_a_normal_sample() -> None:
    values = np.random.default_rng(0).exponential(size=10_000)
    score = RankScale.of(values).scores(values)
    assert (abs(score.mean()) < 1e-9, score.std()) == (True, pytest.approx(1.0, abs=0.01))
    assert np.array_equal(np.argsort(score), np.argsort(values))


def test_there_and_back() -> None:
    values = np.random.default_rng(1).normal(size=500)
    scale = RankScale.of(values)
    assert scale.values(scale.scores(values)) == pytest.approx(values, abs=1e-12)


def test_equal_predictions_have_equal_scores() -> None:
    scale = RankScale.of([0.1, 0.5, 0.5, 0.5, 0.9])
    assert scale.scores([0.5, 0.5]).tolist() == pytest.approx([0.0, 0.0])
    assert len(scale.value_U) == 3


def test_order_is_kept_beyond_the_ends() -> None:
    scale = RankScale.of(np.linspace(0.2, 0.8, 50))
    scores = np.linspace(-5, 5, 101)
    assert (np.diff(scale.values(scores)) > 0).all()


def test_a_constant_predictor_ranks_nothing() -> None:
    scale = RankScale.of(np.full(10, 0.5))
    assert scale.scores([0.5]).tolist() == [0.0]
    assert scale.values([0.0]).tolist() == [0.5]


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [np.inf, 0.0]])
def test_what_has_no_scale(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        RankScale.of(values)
