"""The doubt of predictions against the textbook's posterior variance, and its storage."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from app.domain.whole_space.doubt import Doubt

SIZES = (2, 3, 2, 2)
EVERYTHING = np.array(list(itertools.product(*map(range, SIZES))))
PAIRS = EVERYTHING[[0, 3, 5, 11, 17]]


def covariance(doubt: Doubt, one: Any, other: Any) -> float:
    """Of z at two architectures, term by term: the constant, effects, and every pair and triple of cells."""
    first = np.concatenate([[0], np.cumsum(SIZES)[:-1]])
    rows, columns = first + one, first + other
    shared = [doubt.interacting_CC[row, column] for row, column in zip(rows, columns, strict=True)]
    pairs = sum(math.prod(part) for part in itertools.combinations(shared, 2))
    triples = sum(math.prod(part) for part in itertools.combinations(shared, 3))
    additive = doubt.additive_CC[np.ix_(rows, columns)].sum()
    return float(1.0 + additive + doubt.pairwise * pairs + doubt.triple * triples)


@pytest.fixture
def doubt() -> Doubt:
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, sum(SIZES), sum(SIZES)))
    additive, interacting = (root @ root.T / len(root) for root in roots)
    blank = Doubt(SIZES, PAIRS, additive, interacting, np.eye(len(PAIRS)), 0.4, 0.2, 0.3, typical=0.8)
    known = np.array([[covariance(blank, one, other) for other in PAIRS] for one in PAIRS])
    inverse = np.linalg.inv(known + 0.3 * np.eye(len(PAIRS)))
    return Doubt(SIZES, PAIRS, additive, interacting, inverse, 0.4, 0.2, 0.3, typical=0.8)


def test_it_is_the_posterior_deviation_of_the_textbook(doubt: Doubt) -> None:
    """k(x, x) - k(x, X) (K + s)^-1 k(X, x) + s; intervals are stretched by it in units of the typical one."""
    for one in EVERYTHING:
        shared = np.array([covariance(doubt, one, pair) for pair in PAIRS])
        variance = covariance(doubt, one, one) - shared @ doubt.inverse_MM @ shared + 0.3
        assert doubt.deviation(one[None])[0] == pytest.approx(math.sqrt(variance))
        assert doubt.stretch(one[None])[0] == pytest.approx(max(1.0, math.sqrt(variance) / 0.8))


def test_many_questions_are_answered_as_one(doubt: Doubt) -> None:
    each = np.concatenate([doubt.stretch(one[None]) for one in EVERYTHING])
    assert doubt.stretch(EVERYTHING) == pytest.approx(each)


def test_nothing_is_surer_than_the_noise_of_its_label(doubt: Doubt) -> None:
    """An inverse that claims too much, as rounding may make it, leaves no negative variance."""
    sure = Doubt(SIZES, PAIRS, doubt.additive_CC, doubt.interacting_CC, 1e3 * doubt.inverse_MM, 0.4, 0.2, 0.3, 0.8)
    assert sure.deviation(PAIRS) == pytest.approx(math.sqrt(0.3))


def test_it_survives_its_storage(doubt: Doubt) -> None:
    again = Doubt.from_tensors(doubt.tensors(), SIZES)
    assert again is not None
    assert (again.stretch(EVERYTHING) == doubt.stretch(EVERYTHING)).all()
    assert (again.left_out_deviation() == doubt.left_out_deviation()).all()


def test_a_model_without_one_has_none() -> None:
    assert Doubt.from_tensors({"additive": np.zeros(3)}, SIZES) is None
