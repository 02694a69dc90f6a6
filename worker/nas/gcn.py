"""The graph convolutional network f that fits a subspace (section 3.3, step 2), and PyG's own as its reference.

Two graph convolutions with ReLU and a linear regression head on every node's representation. Legend: N nodes, B bits.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from app.domain.hamming_graph import FactorFeatures, HammingGraph, Int64Array
from worker.nas.hamming_conv import HammingConv
from worker.nas.receptive_field import ReceptiveField

MAX_LAYERS = 2


def check_hidden_sizes(hidden_sizes: Sequence[int]) -> None:
    """Raise what is wrong with the sizes of the graph convolutions.

    Raises:
        ValueError: If there are none or more than two, or one is below 1.
    """
    if not 1 <= len(hidden_sizes) <= MAX_LAYERS:
        raise ValueError(
            f"hidden_sizes must name one or two graph convolutions (the paper: 512, 512), got {len(hidden_sizes)}: "
            "the receptive field of a third would be most of the subspace"
        )
    if min(hidden_sizes) < 1:
        raise ValueError(f"every hidden size must be at least 1, got {list(hidden_sizes)}")


class GCN(torch.nn.Module):
    """The paper's GCN, computed on the receptive field of the nodes asked for; no edge list anywhere.

    Args:
        num_bits: Length of a node's Gray code.
        hidden_sizes: Output sizes of the graph convolutions, one or two of them.
        generator: Draws the initial weights (glorot; biases zero, as ``GCNConv`` does). None: torch's own.

    Raises:
        ValueError: If the sizes are not usable.
    """

    def __init__(
        self, num_bits: int, hidden_sizes: Sequence[int] = (512, 512), generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_hidden_sizes(hidden_sizes)
        sizes = [num_bits, *hidden_sizes]
        self.convs = torch.nn.ModuleList(HammingConv(*pair) for pair in pairwise(sizes))
        self.head = torch.nn.Linear(sizes[-1], 1)
        self.reset_parameters(generator)

    @property
    def layers(self) -> list[HammingConv]:
        """The graph convolutions, first to last."""
        return [cast("HammingConv", conv) for conv in self.convs]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, in a fixed order."""
        for conv in self.layers:
            conv.reset_parameters(generator)
        bound = 1.0 / math.sqrt(self.head.in_features)
        torch.nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, field: ReceptiveField) -> Tensor:
        """Return [N], the predicted accuracies of the field's nodes."""
        if len(self.layers) == 1:
            return self.read_out(field.propagated())
        first = self.layers[0]
        return self.read_out(field.aggregate(first.lin.weight, first.bias))

    def read_out(self, aggregated_NH: Tensor) -> Tensor:
        """Return [N] from what the last convolution's neighbourhoods summed to: its weights, ReLU, and the head."""
        hidden_NH = torch.relu(self.layers[-1].transform(aggregated_NH))
        return linear(hidden_NH, self.head.weight, self.head.bias).squeeze(-1)

    def forward_all(self, x_NB: Tensor, graph: HammingGraph) -> Tensor:
        """Return [num_nodes]: the same network layer by layer over all nodes, the plain way (small subspaces)."""
        for conv in self.convs:
            x_NB = torch.relu(conv(x_NB, graph))
        return linear(x_NB, self.head.weight, self.head.bias).squeeze(-1)


class ReferenceGCN(torch.nn.Module):
    """The same network of PyG's ``GCNConv`` on an explicit graph; its ``state_dict`` and :class:`GCN`'s are the same.

    Args:
        num_bits: Length of a node's Gray code.
        hidden_sizes: Output sizes of the graph convolutions, any number.
        normalize: False if the edge weights are those of D^-1/2 (A + I) D^-1/2 already.
    """

    def __init__(self, num_bits: int, hidden_sizes: Sequence[int] = (512, 512), normalize: bool = True) -> None:
        super().__init__()
        sizes = [num_bits, *hidden_sizes]
        self.convs = torch.nn.ModuleList(GCNConv(*pair, normalize=normalize) for pair in pairwise(sizes))
        self.head = torch.nn.Linear(sizes[-1], 1)

    def forward(self, x_NB: Tensor, edges: Tensor, edge_weight_E: Tensor | None = None) -> Tensor:
        """Return [N], the predicted accuracies of all nodes.

        Args:
            x_NB: Node features.
            edges: ``edge_index`` [2, E], or the adjacency as a sparse CSR tensor.
            edge_weight_E: The weights that go with an ``edge_index``.
        """
        for conv in self.convs:
            x_NB = torch.relu(conv(x_NB, edges, edge_weight_E))
        return linear(x_NB, self.head.weight, self.head.bias).squeeze(-1)


def explicit_graph(graph: HammingGraph, features: FactorFeatures) -> Data:
    """Return a small subspace as PyG ``Data``: ``x`` [N, B], ``edge_index`` [2, E], ``edge_weight`` [E].

    Raises:
        HammingGraphError: If the edges are too many to list.
    """
    edge_index_2E, weight_E = graph.edges()
    return Data(
        x=torch.as_tensor(features.rows(graph.choices(np.arange(graph.num_nodes, dtype=np.int64)))),
        edge_index=torch.as_tensor(edge_index_2E),
        edge_weight=torch.as_tensor(weight_E, dtype=torch.float32),
    )


def explicit_neighbourhood(graph: HammingGraph, features: FactorFeatures, index_N: Int64Array, hops: int = 2) -> Data:
    """Return the part of any graph, however large, that these nodes see through ``hops`` convolutions.

    Degrees are those of the whole graph, so the edge weights are normalised here, self-loops included: use it with
    ``ReferenceGCN(normalize=False)``. Outputs are exact at the nodes asked for, not at the rim.

    Returns:
        ``Data`` with ``x``, ``edge_index``, ``edge_weight``, ``node_index`` [R] (the nodes' indices in the subspace)
        and ``position`` [N] (where the nodes asked for are among them).
    """
    rims = [np.unique(np.asarray(index_N, dtype=np.int64))]
    for _ in range(hops):
        rims.append(graph.receptive_field(rims[-1]))
    node_R, inner = rims[-1], rims[-2]
    neighbour_NK, weight_NK = graph.neighbour_table(inner)
    source_E = np.concatenate([neighbour_NK.ravel(), inner])
    target_E = np.concatenate([np.repeat(inner, neighbour_NK.shape[1]), inner])
    weight_E = np.concatenate([weight_NK.ravel(), np.ones(len(inner))])
    weight_E /= np.sqrt(graph.degree(source_E) * graph.degree(target_E))
    return Data(
        x=torch.as_tensor(features.rows(graph.choices(node_R))),
        edge_index=torch.as_tensor(np.searchsorted(node_R, np.stack([source_E, target_E]))),
        edge_weight=torch.as_tensor(weight_E, dtype=torch.float32),
        node_index=torch.as_tensor(node_R),
        position=torch.as_tensor(np.searchsorted(node_R, index_N)),
    )


def normalised_csr(data: Data) -> Tensor:
    """Return D^-1/2 (A + I) D^-1/2 as sparse CSR for ``ReferenceGCN(normalize=False)``, PyG's fastest input."""
    edge_index, weight = gcn_norm(data.edge_index, data.edge_weight, data.num_nodes, dtype=torch.float32)
    csr: Tensor = to_torch_csr_tensor(edge_index, weight, size=(data.num_nodes, data.num_nodes))
    return csr
