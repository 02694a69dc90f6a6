"""The GCN without torch against its definition on the graph; against torch's in tests/unit/worker/nas."""

import dataclasses

import numpy as np
import pytest

from app.domain.hamming_graph import FactorFeatures, HammingGraph
from app.domain.whole_space.hamming_gcn import HammingGCN

SIZES = (3, 2, 1, 4)


def random_gcn(sizes=SIZES, hidden=(7, 5), seed=0, **changes):
    rng = np.random.default_rng(seed)
    bits = tuple(rng.integers(0, 2, (n, 3)).astype(np.float32) for n in sizes)
    shapes = ((hidden[0], 3 * len(sizes)), (hidden[0],), (hidden[1], hidden[0]), (hidden[1],), (hidden[1],), ())
    return HammingGCN(bits, *(rng.normal(0, 0.4, shape).astype(np.float32) for shape in shapes), **changes)


def by_definition(gcn):
    """All nodes: two dense products with D^-1/2 (A + I) D^-1/2."""
    graph = HammingGraph.assigned(gcn.factor_sizes)
    node_N = np.arange(graph.num_nodes)
    adjacency = np.eye(graph.num_nodes)
    (source, target), weight = graph.edges()
    adjacency[source, target] = weight
    scale = graph.degree(node_N) ** -0.5
    adjacency *= scale[:, None] * scale
    width = sum(table.shape[1] for table in gcn.bit_tables)
    tables, first = [], 0
    for table in gcn.bit_tables:
        tables.append(np.pad(table, ((0, 0), (first, width - first - table.shape[1]))))
        first += table.shape[1]
    x_NB = FactorFeatures(np.zeros(width, dtype=np.float32), tuple(tables)).rows(graph.choices(node_N))
    hidden = np.maximum(adjacency @ x_NB @ gcn.first_weight_HB.T + gcn.first_bias_H, 0)
    hidden = np.maximum(adjacency @ hidden @ gcn.second_weight_GH.T + gcn.second_bias_G, 0)
    return graph.choices(node_N), hidden @ gcn.head_weight_G + gcn.head_bias


@pytest.mark.parametrize("sizes", [SIZES, (2,), (1, 1), (6, 6, 6), (10, 3)])
def test_predictions_are_those_of_the_definition(sizes):
    gcn = random_gcn(sizes)
    choices_NL, expected_N = by_definition(gcn)
    np.testing.assert_allclose(gcn.predict(choices_NL), expected_N, rtol=1e-5, atol=1e-5)


def test_chunks_do_not_change_the_predictions(monkeypatch):
    gcn = random_gcn()
    choices_NL, expected_N = by_definition(gcn)
    monkeypatch.setattr("app.domain.whole_space.hamming_gcn._TEMPORARY_BYTES", 1)
    np.testing.assert_allclose(gcn.predict(choices_NL), expected_N, rtol=1e-5, atol=1e-5)
    assert gcn.predict(choices_NL[:0]).shape == (0,)


def test_a_graph_of_more_nodes_than_fit_an_index():
    gcn = random_gcn((10,) * 64)
    predicted_N = gcn.predict(np.random.default_rng(0).integers(0, 10, (20, 64)))
    assert np.isfinite(predicted_N).all()
    assert np.ptp(predicted_N) > 0


def test_bytes_and_back():
    gcn = random_gcn(edge_weight=0.25)
    again = HammingGCN.from_bytes(gcn.to_bytes())
    choices_NL = np.array([[0, 1, 0, 3], [2, 0, 0, 1]])
    assert again.edge_weight == 0.25
    np.testing.assert_array_equal(again.predict(choices_NL), gcn.predict(choices_NL))
    with pytest.raises(ValueError, match="cut short"):
        HammingGCN.from_bytes(gcn.to_bytes()[:50])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_bias_H": np.zeros(6)}, "first_weight_HB has shape"),
        ({"second_weight_GH": np.zeros((5, 6))}, "second_weight_GH has shape"),
        ({"head_weight_G": np.zeros((1, 5))}, "head_weight_G has shape"),
        ({"head_bias": np.zeros(1)}, "head_bias has shape"),
        ({"second_bias_G": np.full(5, np.nan)}, "not finite"),
        ({"bit_tables": ()}, "one matrix per cell"),
        ({"bit_tables": (np.zeros(3),)}, "one matrix per cell"),
        ({"edge_weight": 0.0}, "edge_weight"),
        ({"edge_weight": float("nan")}, "edge_weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(random_gcn(), **changes)


@pytest.mark.parametrize("choices", [[[0, 0, 0]], [[0, 0, 1, 0]], [[-1, 0, 0, 0]], [0, 0, 0, 0]])
def test_architectures_of_another_space_are_refused(choices):
    with pytest.raises(ValueError, match="choices"):
        random_gcn().predict(choices)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="two graph convolutions"):
        HammingGCN.from_state_dict(random_gcn().bit_tables, {"convs.0.lin.weight": np.zeros((2, 2))})
