"""Graph convolution on a Hamming graph without an edge list: neighbours are summed along the axes of the subspace.

Legend: N nodes, F features in, H features out; ``x_SH`` is a tensor [n_0, ..., n_(F-1), H] with one axis per factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from app.domain.hamming_graph import Float64Array, HammingGraph


@dataclass(frozen=True)
class FactorAdjacency:
    """The edges along one factor: S_f, the symmetric matrix of its choices' similarities.

    Attributes:
        matrix_CC: float32 [n_f, n_f] with a zero diagonal.
        uniform_weight: The weight of every edge if they are all the same (sums are then cheaper), else None.
    """

    matrix_CC: Tensor
    uniform_weight: float | None

    @classmethod
    def from_similarity(cls, similarity: Float64Array, like: Tensor) -> "FactorAdjacency":
        """Return the adjacency on the device and in the floating type of ``like``."""
        off_diagonal = similarity[~np.eye(len(similarity), dtype=bool)]
        uniform = None if off_diagonal.size and np.ptp(off_diagonal) > 0 else float(off_diagonal[:1].sum())
        return cls(torch.as_tensor(similarity).to(like), uniform)

    def product(self, x_SH: Tensor, axis: int) -> Tensor:
        """Return S_f x: at every node the weighted sum over the nodes that differ along this axis only."""
        if self.uniform_weight is not None:
            return (x_SH.sum(axis, keepdim=True) - x_SH) * self.uniform_weight
        size = x_SH.shape[axis]
        before = x_SH.shape[:axis].numel()
        return torch.matmul(self.matrix_CC, x_SH.reshape(before, size, -1)).reshape(x_SH.shape)


def factor_adjacencies(graph: HammingGraph, like: Tensor) -> list[FactorAdjacency]:
    """Return one :class:`FactorAdjacency` per factor, on the device and in the floating type of ``like``."""
    return [FactorAdjacency.from_similarity(matrix, like) for matrix in graph.similarities]


def adjacency_product(x_SH: Tensor, factors: Sequence[FactorAdjacency], hamming_threshold: int) -> Tensor:
    """Return A x without self-loops: A = sum_f S_f, plus sum_(f<g) S_f S_g for a Hamming threshold of 2.

    Args:
        x_SH: [n_0, ..., n_(F-1), H], one axis per factor given.
        factors: The edges along each axis.
        hamming_threshold: 1 or 2.
    """
    one_move_SH = torch.zeros_like(x_SH)
    two_moves_SH = torch.zeros_like(x_SH) if hamming_threshold == 2 else None
    for axis, factor in enumerate(factors):
        if two_moves_SH is not None:
            two_moves_SH = two_moves_SH + factor.product(one_move_SH, axis)
        one_move_SH = one_move_SH + factor.product(x_SH, axis)
    return one_move_SH if two_moves_SH is None else one_move_SH + two_moves_SH


class HammingConv(MessagePassing):  # type: ignore[misc]
    r"""PyG's ``GCNConv`` over all nodes of a :class:`HammingGraph`, with the graph in the place of ``edge_index``.

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1/2} (\mathbf{A} + \mathbf{I}) \mathbf{D}^{-1/2} \mathbf{X} \mathbf{\Theta}

    Parameters (``lin.weight``, ``bias``) and numbers are those of ``GCNConv``, so a ``state_dict`` fits either. The
    Hamming graph is a Cartesian product of complete graphs, hence A is a sum of small matrices along axes.

    Args:
        in_channels: Size of a node's feature vector.
        out_channels: Size of its representation.

    Shapes:
        - **input:** node features :math:`(|\mathcal{V}|, F_{in})` of all nodes in index order, and the graph
        - **output:** node features :math:`(|\mathcal{V}|, F_{out})`
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(aggr="add")
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = torch.nn.Parameter(torch.empty(out_channels))
        zeros(self.bias)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw glorot weights, from the generator if one is given, and set the bias to zero."""
        super().reset_parameters()
        torch.nn.init.xavier_uniform_(self.lin.weight, generator=generator)
        zeros(self.bias)

    def forward(self, x_NF: Tensor, graph: HammingGraph) -> Tensor:
        """Return the representations [N, H] of all nodes; see the class for the formula."""
        return self.propagate(graph, x=self.lin(x_NF)) + self.bias

    def propagate(self, edge_index: HammingGraph, size: None = None, **kwargs: Tensor) -> Tensor:
        """PyG's entry to message passing: sums along axes take the place of messages along edges."""
        graph, x_NH = edge_index, kwargs["x"]
        degree_N = graph.degree(np.arange(graph.num_nodes, dtype=np.int64))
        scale_N1 = torch.as_tensor(degree_N**-0.5).to(x_NH)[:, None]
        scaled_NH = x_NH * scale_N1
        neighbours_SH = adjacency_product(
            scaled_NH.reshape(*graph.factor_sizes, -1), factor_adjacencies(graph, x_NH), graph.hamming_threshold
        )
        return (scaled_NH + neighbours_SH.reshape(scaled_NH.shape)) * scale_N1

    def transform(self, aggregated_NF: Tensor) -> Tensor:
        """Return the layer's output for nodes whose neighbourhood has been aggregated before the weights."""
        return torch.nn.functional.linear(aggregated_NF, self.lin.weight, self.bias)
