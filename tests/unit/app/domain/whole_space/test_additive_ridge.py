"""Ridge regression on choices: what it recovers, and its left-out predictions against fitting without each pair."""

import numpy as np
import pytest

from app.domain.whole_space.additive_ridge import fit_additive

SIZES = (3, 4, 2)


def pairs(num, noise=0.0):
    rng = np.random.default_rng(0)
    choices_NL = np.stack([rng.integers(0, size, num) for size in SIZES], axis=1)
    tables = [rng.normal(0, 0.05, size) for size in SIZES]
    accuracy_N = 0.7 + sum(table[choices_NL[:, cell]] for cell, table in enumerate(tables))
    return choices_NL, accuracy_N + noise * rng.normal(size=num)


def test_recovers_an_additive_accuracy():
    choices_NL, accuracy_N = pairs(400)
    fit = fit_additive(SIZES, choices_NL, accuracy_N, penalty=1e-6)
    np.testing.assert_allclose(fit.function.of(choices_NL), accuracy_N, atol=1e-6)
    np.testing.assert_allclose(fit.left_out_N, accuracy_N, atol=1e-6)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_the_left_out_prediction_is_that_of_a_fit_without_the_pair(penalty):
    choices_NL, accuracy_N = pairs(30, noise=0.02)
    fit = fit_additive(SIZES, choices_NL, accuracy_N, penalty)
    for row in range(30):
        others = np.arange(30) != row
        without = fit_additive(SIZES, choices_NL[others], accuracy_N[others], penalty)
        assert without.function.of(choices_NL[[row]])[0] == pytest.approx(fit.left_out_N[row], abs=1e-12)


def test_a_choice_that_was_never_sampled_adds_nothing():
    choices_NL, accuracy_N = pairs(50)
    choices_NL[choices_NL[:, 1] == 3, 1] = 0
    fit = fit_additive(SIZES, choices_NL, accuracy_N)
    assert fit.function.tables[1][3] == 0


def test_constant_accuracies_are_predicted_everywhere():
    choices_NL, _ = pairs(20)
    fit = fit_additive(SIZES, choices_NL, np.full(20, 0.5))
    np.testing.assert_allclose(fit.function.of(choices_NL), 0.5)
    np.testing.assert_allclose(fit.left_out_N, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy_N": np.array([0.5, np.nan, 0.5])}, "finite"),
        ({"accuracy_N": np.array([0.5, 0.5])}, r"\[N, 3\] choices"),
        ({"choices_NL": np.zeros((3, 2), dtype=np.int64)}, r"\[N, 3\] choices"),
        ({"choices_NL": np.zeros((1, 3), dtype=np.int64), "accuracy_N": np.array([0.5])}, "at least two"),
        ({"penalty": 0.0}, "penalty must be positive"),
        ({"penalty": np.inf}, "penalty must be positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes, message):
    given = {"choices_NL": np.zeros((3, 3), dtype=np.int64), "accuracy_N": np.array([0.4, 0.5, 0.6]), "penalty": 1.0}
    with pytest.raises(ValueError, match=message):
        fit_additive(SIZES, **given | changes)
