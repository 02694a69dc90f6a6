"""Measured similarity: its meaning on made-up accuracies whose answer is known, and its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.domain.hamming_graph import ASSIGNED_SIMILARITY, HammingGraph
from worker.nas.similarity import measured_similarity

GRAPH = HammingGraph.assigned((3, 4, 4, 4), hamming_threshold=2)


def sampled(count=190, seed=0):
    return np.random.default_rng(seed).choice(GRAPH.num_nodes, count, replace=False)


def test_choices_that_respond_alike_are_similar_and_one_that_does_not_is_not():
    index = sampled()
    choices = GRAPH.choices(index)
    rest = 0.02 * choices[:, 1:].sum(1)
    # Choice 2 of the first cell works only with what harms the others.
    accuracy = 0.5 + np.where(choices[:, 0] == 2, -0.2 * rest, rest) + np.random.default_rng(1).normal(0, 0.004, 190)
    similarity = measured_similarity(GRAPH, index, accuracy).similarities[0]
    assert similarity[0, 1] > 0.85
    assert similarity[0, 2] < 0.2
    assert similarity[1, 2] < 0.2


def test_graph_keeps_its_factors_and_threshold():
    graph = measured_similarity(GRAPH, sampled(), np.random.default_rng(0).uniform(0.4, 0.6, 190))
    assert graph.factor_sizes == GRAPH.factor_sizes
    assert graph.hamming_threshold == 2


@pytest.mark.parametrize("accuracy", [np.array([0.4, 0.5]), np.array([0.5, 0.5])])
def test_too_few_pairs_leave_the_assigned_weight(accuracy):
    graph = measured_similarity(GRAPH, np.array([0, 100]), accuracy)
    for matrix in graph.similarities:
        np.testing.assert_allclose(matrix[~np.eye(len(matrix), dtype=bool)], ASSIGNED_SIMILARITY)


def test_equal_accuracies_say_nothing():
    graph = measured_similarity(GRAPH, sampled(), np.full(190, 0.1))
    assert graph.uniform_weights == pytest.approx((ASSIGNED_SIMILARITY,) * 4)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 190), elements=st.floats(0, 1)))
def test_always_a_valid_graph_and_always_the_same(accuracy):
    index = sampled(len(accuracy))
    first, second = (measured_similarity(GRAPH, index, accuracy) for _ in range(2))
    for a, b in zip(first.similarities, second.similarities, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("index", "accuracy", "message"),
    [([0], [0.5, 0.6], "one accuracy"), ([], [], "one accuracy"), ([0, 1], [0.5, np.nan], "finite")],
)
def test_unusable_pairs(index, accuracy, message):
    with pytest.raises(ValueError, match=message):
        measured_similarity(GRAPH, np.array(index, dtype=np.int64), np.array(accuracy))
