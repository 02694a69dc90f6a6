"""Predictions of whole subspaces and of single nodes: PyG's, however memory cuts the subspace."""

import numpy as np
import pytest
import torch

from tests.unit.worker.nas.small_graphs import every_graph, every_kind, make_graph, make_pair, random_features
from worker.nas import gcn_prediction
from worker.nas.gcn import explicit_graph
from worker.nas.gcn_prediction import GCNFit, predict_nodes, predict_subspace


@every_kind
@every_graph
@pytest.mark.parametrize("slab_bytes", [1 << 30, 2000, 1], ids=["one slab", "some slabs", "slabs of one factor"])
def test_predicted_subspace_equals_pyg(kind, threshold, slab_bytes, monkeypatch):
    graph, features = make_graph(kind, threshold), random_features()
    module, reference = make_pair()
    data = explicit_graph(graph, features)
    expected = reference(data.x, data.edge_index, data.edge_weight).detach().numpy()
    fit = GCNFit(module, graph, features, np.zeros(1), torch.device("cpu"))
    monkeypatch.setattr(gcn_prediction, "_SLAB_BYTES", slab_bytes)
    seen = []
    predicted = predict_subspace(fit, lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-5)
    assert predicted.dtype == np.float32
    assert seen[-1] == (graph.num_nodes, graph.num_nodes)
    assert sorted(seen) == seen


@every_kind
def test_predicted_nodes_are_rows_of_the_predicted_subspace(kind, monkeypatch):
    graph, features = make_graph(kind), random_features()
    fit = GCNFit(make_pair()[0], graph, features, np.zeros(1), torch.device("cpu"))
    asked = np.array([7, 3, 119, 3])
    monkeypatch.setattr(gcn_prediction, "_NODES_PER_LIST_CHUNK", 3)
    np.testing.assert_allclose(predict_nodes(fit, asked), predict_subspace(fit)[asked], rtol=1e-5, atol=1e-5)
    assert predict_nodes(fit, np.zeros(0, dtype=np.int64)).shape == (0,)


def test_one_layer_predicts_the_subspace_too():
    graph, features = make_graph("measured"), random_features()
    module, reference = make_pair((16,))
    data = explicit_graph(graph, features)
    fit = GCNFit(module, graph, features, np.zeros(1), torch.device("cpu"))
    expected = reference(data.x, data.edge_index, data.edge_weight).detach().numpy()
    np.testing.assert_allclose(predict_subspace(fit), expected, rtol=1e-5, atol=1e-5)
