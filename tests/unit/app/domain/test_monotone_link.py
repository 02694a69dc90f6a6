"""Links keep rankings, take a known saturation out, and stay within their bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from app.domain.monotone_link import MonotoneLink, cross_fitted, normal_scores


def test_normal_scores_are_quantiles_of_ranks() -> None:
    scores = normal_scores(np.array([0.3, 0.9, 0.1, 0.3]))
    assert scores == pytest.approx(norm.ppf([0.5, 0.875, 0.125, 0.5]))


@given(st.integers(2, 200), st.integers(0, 99))
def test_it_keeps_every_ranking_within_its_bounds(num: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=num)
    link = MonotoneLink.fit(score, np.clip(0.8 + 0.1 * score + 0.2 * rng.normal(size=num), 0, 1))
    asked = np.linspace(-6, 6, 50)
    values = link(asked)
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values) >= 0).all()


def test_it_finds_a_saturating_curve_beneath_noise() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=2000)
    link = MonotoneLink.fit(score, 0.9 - 0.02 * np.exp(-score) + 0.002 * rng.normal(size=2000))
    asked = np.linspace(-1.5, 1.5, 9)
    assert link(asked) == pytest.approx(0.9 - 0.02 * np.exp(-asked), abs=0.005)
    assert link.slope(np.array([-1.0]))[0] > 3 * link.slope(np.array([1.5]))[0] > 0


def test_equal_values_give_a_constant() -> None:
    link = MonotoneLink.fit(np.array([1.0, 2.0, 3.0]), np.full(3, 0.5))
    assert link(np.array([-9.0, 2.0, 9.0])) == pytest.approx([0.5] * 3)


def test_cross_fitted_values_have_not_seen_their_pair() -> None:
    rng = np.random.default_rng(0)
    score, value = rng.normal(size=100), rng.uniform(0.2, 0.8, 100)
    seen = MonotoneLink.fit(score, value)(score)
    unseen = cross_fitted(score, value, np.random.default_rng(0))
    assert np.abs(unseen - value).mean() > np.abs(seen - value).mean()
    # pair 0 is an outlier now: the others' links change, its own does not
    changed = cross_fitted(score, np.where(np.arange(100) == 0, 1.0, value), np.random.default_rng(0))
    assert changed[0] == unseen[0]
    assert (changed != unseen).any()


def test_scores_that_say_nothing_keep_their_order() -> None:
    score = np.linspace(-1, 1, 24)
    values = MonotoneLink.fit(score, 0.5 - 0.01 * score)(score)
    assert (np.diff(values) > 0).all()
    assert values == pytest.approx(np.full(24, 0.5), abs=0.001)


def test_many_values_at_the_lower_bound_without_an_upper_one() -> None:
    rng = np.random.default_rng(0)
    score = np.arange(100.0)
    value = np.where(score < 20, 0.2, 0.3 + 0.02 * score + 0.01 * rng.normal(size=100))
    link = MonotoneLink.fit(score, value, 0.2, np.inf)
    found = link(np.linspace(-50, 150, 50))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found.min() > 0.2
    assert link(score[30:]) == pytest.approx(value[30:], abs=0.1)
