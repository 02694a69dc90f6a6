"""The Hamming graph against its plain form: every pair of nodes looked at, every sum written out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.hamming_graph import FactorFeatures, HammingGraph, HammingGraphError

SIZES = (3, 2, 1, 4)


def random_similarities(sizes, seed=0):
    rng = np.random.default_rng(seed)
    matrices = []
    for size in sizes:
        matrix = rng.uniform(0.1, 0.9, (size, size))
        matrix = (matrix + matrix.T) / 2
        np.fill_diagonal(matrix, 0.0)
        matrices.append(matrix)
    return matrices


def random_features(sizes, num_bits=9, seed=1):
    rng = np.random.default_rng(seed)
    tables = tuple(rng.integers(0, 2, (size, num_bits)).astype(np.float32) for size in sizes)
    return FactorFeatures(rng.integers(0, 2, num_bits).astype(np.float32), tables)


def dense_adjacency(graph):
    """A, from the definition: compare all pairs of architectures cell by cell."""
    nodes = list(itertools.product(*map(range, graph.factor_sizes)))
    matrix = np.zeros((len(nodes), len(nodes)))
    for (i, first), (j, second) in itertools.product(enumerate(nodes), repeat=2):
        differing = [factor for factor, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        if 1 <= len(differing) <= graph.hamming_threshold:
            matrix[i, j] = math.prod(graph.similarities[f][first[f], second[f]] for f in differing)
    return matrix


GRAPHS = [
    pytest.param(graph, id=f"{kind}-{threshold}")
    for threshold in (1, 2)
    for kind, graph in (
        ("assigned", HammingGraph.assigned(SIZES, hamming_threshold=threshold)),
        ("measured", HammingGraph.measured(random_similarities(SIZES), threshold)),
    )
]


@pytest.mark.parametrize("graph", GRAPHS)
def test_edges_are_those_of_the_definition(graph):
    edge_index, weight = graph.edges()
    listed = np.zeros((graph.num_nodes, graph.num_nodes))
    np.add.at(listed, tuple(edge_index), weight)
    np.testing.assert_allclose(listed, dense_adjacency(graph), rtol=1e-12)
    assert edge_index.shape[1] == graph.num_nodes * graph.num_neighbours


@pytest.mark.parametrize("graph", GRAPHS)
def test_degree_counts_edges_and_the_self_loop(graph):
    index = np.arange(graph.num_nodes)
    np.testing.assert_allclose(graph.degree(index), 1.0 + dense_adjacency(graph).sum(1), rtol=1e-12)


@pytest.mark.parametrize("graph", GRAPHS)
def test_propagation_coefficients_multiply_features_like_the_normalised_adjacency(graph):
    features = random_features(SIZES)
    index = np.arange(graph.num_nodes)
    scale = graph.degree(index) ** -0.5
    normalised = scale[:, None] * (dense_adjacency(graph) + np.eye(graph.num_nodes)) * scale
    expected = normalised @ features.rows(graph.choices(index))
    np.testing.assert_allclose(graph.propagation_coefficients(index) @ features.stacked, expected, atol=1e-6)
    compact, expansion = features.compacted()
    np.testing.assert_allclose(graph.propagation_coefficients(index) @ compact.stacked @ expansion, expected, atol=1e-6)


@pytest.mark.parametrize("threshold", [1, 2])
def test_assigned_features_stay_additive(threshold):
    graph = HammingGraph.assigned(SIZES, hamming_threshold=threshold)
    features = random_features(SIZES)
    index = np.arange(graph.num_nodes)
    propagated = graph.propagated(features).rows(graph.choices(index))
    np.testing.assert_allclose(propagated, graph.propagation_coefficients(index) @ features.stacked, atol=1e-6)


def test_measured_features_do_not_stay_additive():
    graph = HammingGraph.measured(random_similarities(SIZES))
    with pytest.raises(HammingGraphError, match="weigh the same"):
        graph.propagated(random_features(SIZES))


def test_the_papers_numbers():
    graph = HammingGraph.assigned((6,) * 7)
    assert graph.num_nodes == 279_936
    assert graph.num_neighbours == 35
    np.testing.assert_allclose(graph.degree(np.array([0, 279_935])), 1 + 35 * math.exp(-0.5))
    index, weight = graph.neighbours(123_456)
    assert len(set(index.tolist())) == 35
    np.testing.assert_allclose(weight, math.exp(-0.5))


def test_threshold_two_weighs_by_distance():
    graph = HammingGraph.assigned((2, 2), hamming_threshold=2)
    index, weight = graph.neighbours(0)
    by_node = dict(zip(index.tolist(), weight.tolist(), strict=True))
    assert by_node == pytest.approx({1: math.exp(-0.5), 2: math.exp(-0.5), 3: math.exp(-1.0)})


def test_receptive_field_is_the_nodes_and_their_neighbours():
    graph = HammingGraph.assigned(SIZES)
    asked = np.array([5, 17])
    near = dense_adjacency(graph)[asked].any(0)
    near[asked] = True
    np.testing.assert_array_equal(graph.receptive_field(asked), np.flatnonzero(near))


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.data())
def test_index_and_choices_are_a_bijection(sizes, data):
    graph = HammingGraph.assigned(sizes)
    index = data.draw(st.integers(0, graph.num_nodes - 1))
    choices = graph.choices(np.array([index]))
    np.testing.assert_array_equal(choices[0], np.unravel_index(index, sizes))
    assert graph.index(choices).tolist() == [index]


def test_the_whole_space_needs_no_list():
    graph = HammingGraph.assigned((6,) * 19)
    last = np.array([6**19 - 1])
    assert graph.num_neighbours == 95
    assert graph.choices(last).tolist() == [[5] * 19]
    assert len(graph.receptive_field(last)) == 96
    with pytest.raises(HammingGraphError, match="too many to list"):
        graph.edges()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HammingGraph.assigned(()), "at least one factor"),
        (lambda: HammingGraph.assigned((3, 0)), "at least one choice"),
        (lambda: HammingGraph.assigned((6,) * 25), "fewer cells"),
        (lambda: HammingGraph.assigned((3,), hamming_threshold=3), "must be 1 or 2"),
        (lambda: HammingGraph.assigned((3,), weight=float("nan")), "from 0 to 1"),
        (lambda: HammingGraph.assigned((3,), weight=-0.1), "from 0 to 1"),
        (lambda: HammingGraph((3, 3), (np.zeros((3, 3)),)), "one each"),
        (lambda: HammingGraph((3,), (np.zeros((2, 2)),)), "shape"),
        (lambda: HammingGraph.measured([np.eye(3)]), "zero diagonal"),
        (lambda: HammingGraph.measured([np.triu(np.full((3, 3), 0.5), 1)]), "symmetric"),
        (lambda: HammingGraph.assigned((3,)).degree(np.array([3])), "from 0 to 2"),
        (lambda: HammingGraph.assigned((3,)).degree(np.array([-1])), "from 0 to 2"),
        (lambda: FactorFeatures(np.zeros(0, np.float32), ()), "at least one bit"),
        (lambda: FactorFeatures(np.zeros(2, np.float32), (np.zeros((3, 4), np.float32),)), "factor 0"),
    ],
)
def test_unusable_graphs_say_what_is_wrong(make, message):
    with pytest.raises(HammingGraphError, match=message):
        make()
