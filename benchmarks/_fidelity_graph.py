"""The paper's outlook, for ``benchmarks.true_labels``: one graph with nodes of both fidelities, as PyG ``HeteroData``.

Every architecture is a node twice, with its inherited accuracy z and with its stand-alone accuracy z*. Edges join
neighbours of the Hamming graph among either kind, and both nodes of an architecture. Legend: N pairs, M true labels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import GCNConv, HeteroConv, SAGEConv

from app.domain.hamming_graph import FactorFeatures, HammingGraph
from worker.nas.gcn import explicit_graph

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

INHERITED, STANDALONE = "inherited", "standalone"
HIDDEN, LEARNING_RATE, WEIGHT_DECAY = 128, 0.01, 5e-4
Edge = tuple[str, str, str]


class FidelityGCN(torch.nn.Module):
    """Two heterogeneous graph convolutions with ReLU, and a linear head for each kind of node."""

    def __init__(self, num_bits: int) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(
            HeteroConv(
                {
                    (INHERITED, "hamming", INHERITED): GCNConv(size, HIDDEN),
                    (STANDALONE, "hamming", STANDALONE): GCNConv(size, HIDDEN),
                    (INHERITED, "same", STANDALONE): SAGEConv(size, HIDDEN, root_weight=False),
                    (STANDALONE, "same", INHERITED): SAGEConv(size, HIDDEN, root_weight=False),
                }
            )
            for size in (num_bits, HIDDEN)
        )
        self.heads = torch.nn.ModuleDict({kind: torch.nn.Linear(HIDDEN, 1) for kind in (INHERITED, STANDALONE)})

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        """Return [num_nodes] for either kind."""
        weight: dict[Edge, Tensor] = data.edge_weight_dict
        hidden: dict[str, Tensor] = data.x_dict
        for conv in self.convs:
            hidden = {
                kind: torch.relu(x) for kind, x in conv(hidden, data.edge_index_dict, edge_weight_dict=weight).items()
            }
        return {kind: self.heads[kind](x).squeeze(-1) for kind, x in hidden.items()}


def fidelity_graph(graph: HammingGraph, features: FactorFeatures) -> HeteroData:
    """Return the graph with both kinds of node."""
    plain, data = explicit_graph(graph, features), HeteroData()
    itself = torch.arange(graph.num_nodes).repeat(2, 1)
    for kind, other in ((INHERITED, STANDALONE), (STANDALONE, INHERITED)):
        data[kind].x = plain.x
        data[kind, "hamming", kind].edge_index = plain.edge_index
        data[kind, "hamming", kind].edge_weight = plain.edge_weight
        data[kind, "same", other].edge_index = itself
    return data


def fit_fidelity_graph(
    data: HeteroData,
    inherited: tuple[Int64Array, Float64Array],
    standalone: tuple[Int64Array, Float64Array],
    epochs: int,
    seed: int,
) -> Float64Array:
    """Return float64 [num_nodes], the stand-alone accuracy that a network fitted to both kinds of label predicts.

    Args:
        data: The graph.
        inherited: int64 [N] nodes and float64 [N] their z.
        standalone: int64 [M] nodes and float64 [M] their z*, on the scale of z.
        epochs: Of the training, by Adam, the rate a tenth after a half and after three quarters.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    network = FidelityGCN(data[INHERITED].x.shape[1])
    mean, scale = inherited[1].mean(), inherited[1].std()
    labels = {
        kind: (torch.as_tensor(index_N), torch.as_tensor((value_N - mean) / scale, dtype=torch.float32))
        for kind, (index_N, value_N) in ((INHERITED, inherited), (STANDALONE, standalone))
    }
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4])
    for _ in range(epochs):
        optimizer.zero_grad()
        predicted = network(data)
        loss = sum(((predicted[kind][index_N] - target_N) ** 2).mean() for kind, (index_N, target_N) in labels.items())
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return np.asarray(network(data)[STANDALONE].double().numpy() * scale + mean)
