"""Both forms of the receptive field: against each other and PyG's GCNConv, whatever they are cut into."""

import numpy as np
import pytest
import torch

from tests.unit.worker.nas.small_graphs import (
    NUM_BITS,
    assert_same_training,
    every_kind,
    make_graph,
    make_pair,
    random_features,
)
from worker.nas import receptive_field
from worker.nas.gcn import GCN, explicit_graph
from worker.nas.receptive_field import ExplicitField, UniformField, propagated_bits


def test_both_receptive_fields_are_equal():
    graph, features = make_graph("assigned"), random_features()
    module, other = GCN(NUM_BITS, (16, 8), torch.Generator().manual_seed(0)), GCN(NUM_BITS, (16, 8))
    other.load_state_dict(module.state_dict())
    labelled = np.arange(0, graph.num_nodes, 3)
    uniform = UniformField.build(graph, features, labelled, "cpu")
    explicit = ExplicitField.build(graph, features, labelled, "cpu")
    assert_same_training(module, module(uniform), other, other(explicit))


@every_kind
def test_chunks_do_not_change_the_numbers(kind, monkeypatch):
    graph, features = make_graph(kind), random_features()
    module, reference = make_pair()
    labelled = np.random.default_rng(0).choice(graph.num_nodes, 70, replace=False)
    expected = reference(*(explicit_graph(graph, features)[key] for key in ("x", "edge_index", "edge_weight")))
    monkeypatch.setattr(receptive_field, "_TEMPORARY_BYTES", 1)
    monkeypatch.setattr(receptive_field, "_FIELD_CHUNK", 17)
    monkeypatch.setattr(receptive_field, "_STORED_FEATURES_BYTES", 0)
    field = receptive_field.receptive_field(graph, features, labelled, "cpu")
    assert_same_training(module, module(field), reference, expected[labelled])


def test_features_of_another_subspace_are_refused():
    with pytest.raises(ValueError, match="factors"):
        receptive_field.receptive_field(make_graph("assigned"), random_features((3, 3)), np.array([0]), "cpu")


@every_kind
def test_propagated_bits_are_rows_of_the_normalised_product(kind):
    """D^-1/2 (A + I) D^-1/2 X as matrices, and both forms' rows of it."""
    graph, features = make_graph(kind), random_features()
    data = explicit_graph(graph, features)
    adjacency = np.eye(graph.num_nodes)
    adjacency[data.edge_index[1], data.edge_index[0]] = data.edge_weight
    scale = np.diag(adjacency.sum(1) ** -0.5)
    asked = np.array([5, 0, 119, 5])
    expected = (scale @ adjacency @ scale @ data.x.numpy())[asked]
    np.testing.assert_allclose(propagated_bits(graph, features, asked), expected, rtol=1e-5, atol=1e-6)
    field = receptive_field.receptive_field(graph, features, asked, "cpu")
    np.testing.assert_allclose(field.propagated(), expected, rtol=1e-5, atol=1e-6)


@every_kind
def test_nodes_that_are_none_are_refused(kind):
    graph = make_graph(kind)
    for index in (-1, graph.num_nodes):
        with pytest.raises(ValueError, match="node indices must be from 0 to 119"):
            receptive_field.receptive_field(graph, random_features(), np.array([0, index]), "cpu")
