"""Tests of :mod:`app.domain.saturation`."""

import numpy as np
import pytest

from app.domain.saturation import NOT_SATURATED, Saturation


def test_accuracy_undoes_effort():
    accuracy_N = np.array([0.0, 0.3, 0.74, 0.7499])
    saturation = Saturation(0.75)
    np.testing.assert_allclose(saturation.accuracy(saturation.effort(accuracy_N)), accuracy_N, atol=1e-12)


def test_equal_efforts_halve_what_is_missing():
    saturation = Saturation(0.8)
    np.testing.assert_allclose(saturation.accuracy(saturation.effort(0.4) + np.log(2) * np.arange(3)), [0.4, 0.6, 0.7])


@pytest.mark.parametrize("accuracy", [0.8, 0.9])
def test_an_accuracy_at_the_ceiling_has_a_finite_effort(accuracy):
    effort = Saturation(0.8).effort(accuracy)
    assert np.isfinite(effort)
    assert effort > Saturation(0.8).effort(0.7999)


def test_bounds_are_the_efforts_of_nothing_and_of_everything():
    assert Saturation(0.8).bounds == (pytest.approx(-np.log(0.8)), np.inf)
    assert Saturation(1.1).accuracy(np.array(Saturation(1.1).bounds)) == pytest.approx([0.0, 1.0])


def test_what_knows_no_ceiling_does_not_outrank_everything():
    saturation = Saturation(0.8, nearest=0.1)
    np.testing.assert_allclose(saturation.capped_effort(np.array([0.6, 0.75, 0.9])), -np.log([0.2, 0.1, 0.1]))


def test_accuracies_that_do_not_saturate_are_their_efforts():
    accuracy_N = np.array([0.0, 0.4, 1.2])
    for effort_N in (NOT_SATURATED.effort(accuracy_N), NOT_SATURATED.capped_effort(accuracy_N)):
        np.testing.assert_array_equal(effort_N, accuracy_N)
    np.testing.assert_array_equal(NOT_SATURATED.accuracy(accuracy_N), accuracy_N)
    assert NOT_SATURATED.bounds == (0.0, 1.0)
    assert NOT_SATURATED.deviation(0.01, accuracy_N) == 0.01


def test_noise_is_told_in_accuracies():
    rng, saturation = np.random.default_rng(0), Saturation(0.8)
    effort_N = rng.uniform(0.5, 2.0, 20_000)
    noisy_N = saturation.accuracy(effort_N + 0.05 * rng.normal(size=len(effort_N)))
    expected = float(np.std(noisy_N - saturation.accuracy(effort_N)))
    assert saturation.deviation(0.05, effort_N) == pytest.approx(expected, rel=0.05)
