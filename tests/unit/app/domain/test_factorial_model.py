"""Interactions of pairs and triples, read from their tables."""

import numpy as np

from app.domain.factorial_model import FactorialModel, Interaction
from app.domain.whole_space.additive_function import AdditiveFunction


def test_interactions_are_summed_over_their_combinations() -> None:
    pair, triple = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(2, 3, 2)
    additive = AdditiveFunction(0.0, (np.zeros(2), np.zeros(3), np.zeros(2)))
    model = FactorialModel(additive, (Interaction((0, 1), pair), Interaction((0, 1, 2), triple)))
    choices = np.array([[0, 0, 0], [1, 2, 1], [0, 1, 1]])
    assert model.predict_interactions(choices).tolist() == [0.0, 5.0 + 11.0, 1.0 + 3.0]
    assert model.with_share(0.5).predict_interactions(choices).tolist() == [0.0, 8.0, 2.0]


def test_the_whole_space_is_in_the_order_of_its_nodes() -> None:
    rng = np.random.default_rng(0)
    sizes = (2, 3, 4)
    additive = AdditiveFunction(0.5, tuple(rng.normal(size=n) for n in sizes))
    interactions = (Interaction((0, 2), rng.normal(size=(2, 4))), Interaction((0, 1, 2), rng.normal(size=sizes)))
    model = FactorialModel(additive, interactions)
    everything = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    expected = additive.of(everything) + model.predict_interactions(everything)
    np.testing.assert_allclose(model.whole_space(), expected)
