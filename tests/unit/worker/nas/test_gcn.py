"""The GCN without an edge list against PyG's GCNConv on the explicit graph: outputs, losses, gradients."""

import numpy as np
import pytest
import torch

from app.domain.hamming_graph import FactorFeatures, HammingGraph
from worker.nas import gcn_prediction, receptive_field
from worker.nas.gcn import GCN, ReferenceGCN, explicit_graph, explicit_neighbourhood, normalised_csr
from worker.nas.gcn_prediction import GCNFit, predict_nodes, predict_subspace
from worker.nas.receptive_field import ExplicitField, UniformField

SIZES = (3, 4, 1, 2, 5)
NUM_BITS = 11


def random_features(sizes=SIZES, num_bits=NUM_BITS, seed=1):
    rng = np.random.default_rng(seed)
    tables = [rng.integers(0, 2, (size, num_bits)).astype(np.float32) for size in sizes]
    for table in tables:
        table[:, -2:] = 0  # bits of fixed cells
    return FactorFeatures(rng.integers(0, 2, num_bits).astype(np.float32), tuple(tables))


def make_graph(kind, threshold=1, sizes=SIZES):
    if kind == "assigned":
        return HammingGraph.assigned(sizes, hamming_threshold=threshold)
    rng = np.random.default_rng(7)
    matrices = []
    for size in sizes:
        matrix = rng.uniform(0, 1, (size, size))
        matrix = (matrix + matrix.T) / 2
        np.fill_diagonal(matrix, 0)
        matrices.append(matrix)
    return HammingGraph.measured(matrices, threshold)


def make_pair(hidden_sizes=(16, 8), normalize=True, num_bits=NUM_BITS):
    """The two networks with the same weights; biases are not zero, so that a forgotten one shows."""
    module = GCN(num_bits, hidden_sizes, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    for conv in module.layers:
        torch.nn.init.normal_(conv.bias, generator=generator)
    reference = ReferenceGCN(num_bits, hidden_sizes, normalize)
    reference.load_state_dict(module.state_dict())
    return module, reference


def loss_and_gradients(network, predicted):
    network.zero_grad()
    loss = (predicted - 0.3).abs().mean()
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in network.parameters()]


def assert_same_training(module, predicted, reference, expected):
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5)
    loss, gradients = loss_and_gradients(module, predicted)
    expected_loss, expected_gradients = loss_and_gradients(reference, expected)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


every_graph = pytest.mark.parametrize("threshold", [1, 2])
every_kind = pytest.mark.parametrize("kind", ["assigned", "measured"])


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


@every_kind
@every_graph
def test_layer_by_layer_over_all_nodes_equals_pyg(kind, threshold):
    graph, features = make_graph(kind, threshold), random_features()
    module, reference = make_pair()
    data = explicit_graph(graph, features)
    expected = reference(data.x, data.edge_index, data.edge_weight)
    assert_same_training(module, module.forward_all(data.x, graph), reference, expected)


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


@pytest.mark.parametrize(
    ("hidden_sizes", "message"), [((), "one or two"), ((8,) * 3, "one or two"), ((8, 0), "at least")]
)
def test_unusable_hidden_sizes(hidden_sizes, message):
    with pytest.raises(ValueError, match=message):
        GCN(NUM_BITS, hidden_sizes)


def test_features_of_another_subspace_are_refused():
    with pytest.raises(ValueError, match="factors"):
        receptive_field.receptive_field(make_graph("assigned"), random_features((3, 3)), np.array([0]), "cpu")
