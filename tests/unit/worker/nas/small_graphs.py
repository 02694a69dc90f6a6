"""Small Hamming graphs of every kind, and the GCN with PyG's own in the same weights: what tests of the GCN compare."""

import numpy as np
import pytest
import torch

from app.domain.hamming_graph import FactorFeatures, HammingGraph
from worker.nas.gcn import GCN, ReferenceGCN

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
