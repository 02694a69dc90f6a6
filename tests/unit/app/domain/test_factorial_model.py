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
