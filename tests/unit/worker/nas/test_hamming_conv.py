"""One graph convolution on the axes of a subspace against PyG's GCNConv on the listed edges."""

import numpy as np
import pytest
import torch
from torch_geometric.nn import GCNConv

from app.domain.hamming_graph import HammingGraph
from tests.unit.worker.nas.small_graphs import (
    NUM_BITS,
    SIZES,
    assert_same_training,
    every_graph,
    every_kind,
    make_graph,
    make_pair,
    random_features,
)
from worker.nas.gcn import explicit_graph
from worker.nas.hamming_conv import FactorAdjacency, HammingConv, adjacency_product, factor_adjacencies


@every_kind
@every_graph
def test_it_is_pygs_convolution(kind, threshold):
    """D^-1/2 (A + I) D^-1/2 X W + b, and its gradients, with one state_dict for both."""
    graph, features = make_graph(kind, threshold), random_features()
    data = explicit_graph(graph, features)
    ours, theirs = HammingConv(NUM_BITS, 7), GCNConv(NUM_BITS, 7)
    torch.nn.init.normal_(theirs.bias, generator=torch.Generator().manual_seed(0))
    ours.load_state_dict(theirs.state_dict())
    found, expected = ours(data.x, graph), theirs(data.x, data.edge_index, data.edge_weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for output in (found, expected):
        output.square().sum().backward()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-4)


@every_kind
@every_graph
def test_sums_along_axes_are_the_adjacency_matrix(kind, threshold):
    graph = make_graph(kind, threshold)
    edge_index, weight = graph.edges()
    adjacency = np.zeros((graph.num_nodes, graph.num_nodes))
    adjacency[edge_index[1], edge_index[0]] = weight
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(graph.num_nodes, 3)))
    factors = factor_adjacencies(graph, x)
    found = adjacency_product(x.reshape(*SIZES, 3), factors, threshold).reshape(-1, 3)
    torch.testing.assert_close(found, torch.as_tensor(adjacency) @ x)


@pytest.mark.parametrize(
    ("similarity", "uniform"),
    [
        ([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], 0.5),
        ([[0, 0.5, 0.5], [0.5, 0, 0.4], [0.5, 0.4, 0]], None),
        ([[0, 0.7], [0.7, 0]], 0.7),
        ([[0]], 0.0),
    ],
)
def test_equal_weights_are_noticed_and_give_the_same_sums(similarity, uniform):
    matrix = np.array(similarity, dtype=np.float64)
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(2, len(matrix), 4, 3)))
    adjacency = FactorAdjacency.from_similarity(matrix, x)
    assert adjacency.uniform_weight == uniform
    expected = torch.einsum("ij,ajbh->aibh", torch.as_tensor(matrix), x)
    torch.testing.assert_close(adjacency.product(x, 1), expected)


def test_a_convolution_after_aggregation_is_the_convolution():
    """The last layer's weights are applied to few nodes only, after their neighbourhoods are summed."""
    graph, features = HammingGraph.assigned(SIZES), random_features()
    conv = HammingConv(NUM_BITS, 7)
    conv.reset_parameters(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(conv.bias, generator=torch.Generator().manual_seed(1))
    x = explicit_graph(graph, features).x
    torch.testing.assert_close(conv.transform(conv.propagate(graph, x=x)), conv(x, graph), rtol=1e-5, atol=1e-5)


def test_the_generator_decides_the_weights():
    first, again, other = (HammingConv(NUM_BITS, 7) for _ in range(3))
    for conv, seed in ((first, 3), (again, 3), (other, 4)):
        torch.nn.init.ones_(conv.bias)
        conv.reset_parameters(torch.Generator().manual_seed(seed))
    assert torch.equal(first.lin.weight, again.lin.weight)
    assert not torch.equal(first.lin.weight, other.lin.weight)
    assert first.lin.weight.abs().max() <= (6 / (NUM_BITS + 7)) ** 0.5
    assert first.bias.eq(0).all()


@every_kind
@every_graph
def test_layer_by_layer_over_all_nodes_equals_pyg(kind, threshold):
    graph, features = make_graph(kind, threshold), random_features()
    module, reference = make_pair()
    data = explicit_graph(graph, features)
    expected = reference(data.x, data.edge_index, data.edge_weight)
    assert_same_training(module, module.forward_all(data.x, graph), reference, expected)
