"""Intervals: they cover what they promise, where errors differ as well, and survive their storage."""

import json

import numpy as np
import pytest

from app.domain.prediction_interval import PredictionInterval, calibrate_interval
from app.domain.saturation import Saturation


def labelled(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions with errors that are larger for bad architectures and have a long tail to one side."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.5, 0.9, num)
    error = (0.95 - predicted) * 0.1 * (rng.exponential(1, num) - 1)
    return predicted, predicted + error


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_it_covers_its_level_everywhere(level: float) -> None:
    interval = calibrate_interval(*labelled(600, 0), level)
    predicted, accuracy = labelled(20_000, 1)
    lower, upper = interval.bounds(predicted)
    inside = (accuracy >= lower) & (accuracy <= upper)
    assert inside.mean() == pytest.approx(level, abs=0.03)
    for bad_or_good in (predicted < 0.7, predicted >= 0.7):
        assert inside[bad_or_good].mean() == pytest.approx(level, abs=0.05)
    assert np.mean((upper - lower)[predicted > 0.8]) < np.mean((upper - lower)[predicted < 0.6])


def test_too_few_pairs_give_none() -> None:
    assert calibrate_interval(*labelled(18, 0)) is None
    assert calibrate_interval(*labelled(19, 0)) is not None
    assert calibrate_interval(*labelled(8, 0), level=0.5) is not None


def test_what_is_less_sure_has_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    stretch_N = rng.uniform(0.5, 3.0, 600)
    predicted_N = rng.uniform(0.4, 0.6, 600)
    accuracy_N = predicted_N + 0.01 * stretch_N * rng.normal(size=600)
    interval = calibrate_interval(predicted_N, accuracy_N, stretch_N=stretch_N)
    assert interval is not None
    for wide in (0.5, 3.0):
        new_N = rng.uniform(0.4, 0.6, 4000)
        lower_N, upper_N = interval.bounds(new_N, wide)
        z_N = new_N + 0.01 * wide * rng.normal(size=4000)
        assert ((lower_N <= z_N) & (z_N <= upper_N)).mean() == pytest.approx(0.9, abs=0.03)


def test_where_accuracies_saturate_it_is_wider_below_and_ends_below_the_ceiling() -> None:
    rng, saturation = np.random.default_rng(0), Saturation(0.8)

    def drawn(num: int) -> tuple[np.ndarray, np.ndarray]:
        effort_N = rng.uniform(0.5, 3.0, num)
        return saturation.accuracy(effort_N), saturation.accuracy(effort_N + 0.2 * rng.normal(size=num))

    interval = calibrate_interval(*drawn(600), saturation=saturation)
    predicted_N, accuracy_N = drawn(20_000)
    lower_N, upper_N = PredictionInterval.from_dict(json.loads(json.dumps(interval.to_dict()))).bounds(predicted_N)
    assert ((lower_N <= accuracy_N) & (accuracy_N <= upper_N)).mean() == pytest.approx(0.9, abs=0.02)
    assert (predicted_N - lower_N).mean() > 1.2 * (upper_N - predicted_N).mean()
    assert upper_N.max() < 0.8
    assert np.mean((upper_N - lower_N)[predicted_N > 0.7]) < 0.5 * np.mean((upper_N - lower_N)[predicted_N < 0.5])


def test_bounds_stay_fractions() -> None:
    interval = PredictionInterval(0.9, np.array([]), np.array([-0.2]), np.array([0.2]))
    lower, upper = interval.bounds(np.array([0.1, 0.95]))
    assert (lower.tolist(), upper.tolist()) == ([0.0, 0.75], [pytest.approx(0.3), 1.0])


def test_it_is_the_same_after_its_storage() -> None:
    interval = calibrate_interval(*labelled(600, 0))
    read = PredictionInterval.from_dict(json.loads(json.dumps(interval.to_dict())))
    predicted, _ = labelled(100, 2)
    for one, other in zip(interval.bounds(predicted), read.bounds(predicted), strict=True):
        assert one == pytest.approx(other, abs=2e-6)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate_interval(np.array([0.5]), np.array([0.5]), level)


def test_pairs_are_needed() -> None:
    with pytest.raises(ValueError, match="one prediction per pair"):
        calibrate_interval(np.array([0.5, 0.6]), np.array([0.5]))
    with pytest.raises(ValueError, match="one prediction per pair"):
        calibrate_interval(np.array([]), np.array([]))
