"""The GCN without an edge list against PyG's GCNConv on the explicit graph: outputs, losses, gradients."""

import numpy as np
import pytest
import torch

from tests.unit.worker.nas.small_graphs import (
    NUM_BITS,
    assert_same_training,
    every_graph,
    every_kind,
    make_graph,
    make_pair,
    random_features,
)
from worker.nas import receptive_field
from worker.nas.gcn import GCN, explicit_graph, explicit_neighbourhood, normalised_csr
from worker.nas.receptive_field import ExplicitField, UniformField


@every_kind
@every_graph
@pytest.mark.parametrize("hidden_sizes", [(16, 8), (16,)])
def test_fit_path_equals_pyg(kind, threshold, hidden_sizes):
    graph, features = make_graph(kind, threshold), random_features()
    module, reference = make_pair(hidden_sizes)
    data = explicit_graph(graph, features)
    labelled = np.random.default_rng(0).choice(graph.num_nodes, 40, replace=False)
    field = receptive_field.receptive_field(graph, features, labelled, "cpu")
    assert isinstance(field, UniformField if (kind, threshold) == ("assigned", 1) else ExplicitField)
    expected = reference(data.x, data.edge_index, data.edge_weight)[labelled]
    assert_same_training(module, module(field), reference, expected)


@pytest.mark.filterwarnings("ignore:Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)")
def test_csr_adjacency_is_the_same_graph():
    graph, features = make_graph("measured"), random_features()
    _, reference = make_pair()
    _, normalised = make_pair(normalize=False)
    data = explicit_graph(graph, features)
    torch.testing.assert_close(
        normalised(data.x, normalised_csr(data)), reference(data.x, data.edge_index, data.edge_weight)
    )


@every_kind
def test_a_neighbourhood_of_the_whole_space_equals_pyg(kind):
    sizes = (6,) * 19
    graph, features = make_graph(kind, sizes=sizes), random_features(sizes, num_bits=57)
    module, reference = make_pair(normalize=False, num_bits=57)
    asked = np.random.default_rng(0).integers(0, graph.num_nodes, 3)
    data = explicit_neighbourhood(graph, features, asked)
    field = receptive_field.receptive_field(graph, features, asked, "cpu")
    expected = reference(data.x, data.edge_index, data.edge_weight)[data.position]
    assert_same_training(module, module(field), reference, expected)


@pytest.mark.parametrize(
    ("hidden_sizes", "message"), [((), "one or two"), ((8,) * 3, "one or two"), ((8, 0), "at least")]
)
def test_unusable_hidden_sizes(hidden_sizes, message):
    with pytest.raises(ValueError, match=message):
        GCN(NUM_BITS, hidden_sizes)
