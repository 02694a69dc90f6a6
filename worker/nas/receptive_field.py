"""What a few nodes of a huge Hamming graph see through two graph convolutions, computed without the graph.

A fit needs only the labelled nodes' outputs, hence the first layer only at these nodes and their neighbours: the
receptive field. Legend: N labelled nodes, R field nodes, F factors, C choices of a factor, B bits, H hidden units.

- :class:`UniformField`: *assigned* similarity. Degrees are constant, so a node's first-layer pre-activation is a sum
  of one table row per factor, and a neighbour's is the same with one row exchanged. Nothing is stored per neighbour.
- :class:`ExplicitField`: any similarity and threshold. The once-propagated bits of the field are constant through a
  fit and stored; the first layer is a product with them, in chunks that are recomputed in the backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from app.domain.hamming_graph import FactorFeatures, Float32Array, HammingGraph, Int64Array, factor_offsets

# Temporaries of this size stay in the second-level caches; eight times as large, an epoch takes 1.7 times as long.
_TEMPORARY_BYTES = 3 << 20
_FIELD_CHUNK = 1024
_STORED_FEATURES_BYTES = 256 << 20


class ReceptiveField(Protocol):
    """The neighbourhoods of some nodes, prepared once and used every epoch."""

    def propagated(self) -> Tensor:
        """Return [N, B], the nodes' rows of D^-1/2 (A + I) D^-1/2 X."""

    def aggregate(self, weight_HB: Tensor, bias_H: Tensor) -> Tensor:
        """Return [N, H], the nodes' rows of Â relu(Â X W + b), with Â = D^-1/2 (A + I) D^-1/2."""


def receptive_field(
    graph: HammingGraph, features: FactorFeatures, index_N: Int64Array, device: torch.device | str
) -> ReceptiveField:
    """Return the cheapest form of the receptive field of these nodes.

    Raises:
        ValueError: If features and graph have different factors, or an index is not that of a node.
    """
    if features.factor_sizes != graph.factor_sizes:
        raise ValueError(
            f"the features are of factors {features.factor_sizes}, the graph of factors {graph.factor_sizes}"
        )
    if graph.uniform_weights is not None and graph.hamming_threshold == 1:
        return UniformField.build(graph, features, index_N, device)
    return ExplicitField.build(graph, features, index_N, device)


@dataclass(frozen=True)
class UniformField:
    """Receptive field under *assigned* similarity and a Hamming threshold of 1.

    Attributes:
        stacked_CB: The propagated features: constant, then every factor's table.
        choices_NF: int64, the nodes' choices.
        one_hot_NC: 1 for the constant, then the one-hot choices of every factor, so that X = one_hot @ stacked.
        spans: Each factor's rows among the tables' (the constant not counted).
        weights: The edge weight along each factor.
        degree: The degree of every node.
    """

    stacked_CB: Tensor
    choices_NF: Tensor
    one_hot_NC: Tensor
    spans: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    degree: float

    @classmethod
    def build(
        cls, graph: HammingGraph, features: FactorFeatures, index_N: Int64Array, device: torch.device | str
    ) -> "UniformField":
        """Prepare the field of these nodes."""
        assert graph.uniform_weights is not None
        assert graph.hamming_threshold == 1
        choices_NF = graph.choices(index_N)
        spans = factor_offsets(graph.factor_sizes)
        one_hot_NC = np.zeros((len(choices_NF), 1 + sum(graph.factor_sizes)), dtype=np.float32)
        one_hot_NC[:, 0] = 1.0
        for factor, (first, _) in enumerate(spans):
            one_hot_NC[np.arange(len(choices_NF)), 1 + first + choices_NF[:, factor]] = 1.0
        return cls(
            stacked_CB=torch.as_tensor(graph.propagated(features).stacked, device=device),
            choices_NF=torch.as_tensor(choices_NF, device=device),
            one_hot_NC=torch.as_tensor(one_hot_NC, device=device),
            spans=tuple(spans),
            weights=graph.uniform_weights,
            degree=float(graph.degree(np.zeros(1, dtype=np.int64))[0]),
        )

    def propagated(self) -> Tensor:
        """Return [N, B], the nodes' propagated bits."""
        return self.one_hot_NC @ self.stacked_CB

    def aggregate(self, weight_HB: Tensor, bias_H: Tensor) -> Tensor:
        """Return [N, H]; see :class:`ReceptiveField`."""
        table_CH = self.stacked_CB @ weight_HB.T
        own_NH = torch.addmm(bias_H, self.one_hot_NC, table_CH)
        result: Tensor = _UniformAggregate.apply(own_NH, table_CH[1:], self)  # type: ignore[no-untyped-call]
        return result

    def chunks(self, hidden_size: int) -> Iterator[slice]:
        """Cut the nodes so that one factor's neighbours of a chunk fit the cache."""
        largest = max(last - first for first, last in self.spans)
        rows = max(16, _TEMPORARY_BYTES // (4 * hidden_size * largest))
        for start in range(0, len(self.choices_NF), rows):
            yield slice(start, start + rows)


class _UniformAggregate(torch.autograd.Function):
    """Σ_j Â_ij relu(p_j) from p_i and the tables; j differs from i in one factor's row. Only p is kept for backward."""

    @staticmethod
    def forward(ctx: Any, own_NH: Tensor, table_CH: Tensor, field: UniformField) -> Tensor:
        """Sum over *all* choices of a factor, the node's own included, and take its surplus off once at the end."""
        ctx.save_for_backward(own_NH, table_CH)
        ctx.field = field
        sum_NH = torch.relu(own_NH).mul_(1.0 - sum(field.weights))
        negative_CH = -table_CH
        for rows in field.chunks(own_NH.shape[1]):
            for factor, ((first, last), weight) in enumerate(zip(field.spans, field.weights, strict=True)):
                rest_MH = own_NH[rows] - table_CH[first:last][field.choices_NF[rows, factor]]
                # relu(rest + row) = max(rest, -row) + row: one pass instead of two, and the rows are summed apart.
                sum_MH = torch.maximum(rest_MH, negative_CH[first])
                other_MH = torch.empty_like(sum_MH)
                for row in range(first + 1, last):
                    sum_MH += torch.maximum(rest_MH, negative_CH[row], out=other_MH)
                sum_NH[rows].add_(sum_MH, alpha=weight)
        for (first, last), weight in zip(field.spans, field.weights, strict=True):
            sum_NH += table_CH[first:last].sum(0) * weight
        return sum_NH.div_(field.degree)

    @staticmethod
    def backward(ctx: Any, grad_output_NH: Tensor) -> tuple[Tensor, Tensor, None]:
        """Recompute every pre-activation, mask the gradient by it, and sum it over nodes and over choices."""
        own_NH, table_CH = ctx.saved_tensors
        field: UniformField = ctx.field
        grad_NH = grad_output_NH / field.degree
        grad_own_NH = torch.where(own_NH > 0, grad_NH, 0.0).mul_(1.0 - sum(field.weights))
        grad_table_CH = torch.zeros_like(table_CH)
        for rows in field.chunks(own_NH.shape[1]):
            for factor, ((first, last), weight) in enumerate(zip(field.spans, field.weights, strict=True)):
                factor_rows = table_CH[first:last]
                rest_MH = own_NH[rows] - factor_rows[field.choices_NF[rows, factor]]
                masked_CMH = torch.ops.aten.threshold_backward(
                    grad_NH[rows].expand(last - first, -1, -1), rest_MH + factor_rows[:, None], 0
                )
                rest_grad_MH = masked_CMH.sum(0)
                grad_own_NH[rows].add_(rest_grad_MH, alpha=weight)
                # A neighbour's own row is exchanged for another's: the rest loses what the other row gains.
                lost_CH = field.one_hot_NC[rows, 1 + first : 1 + last].T @ rest_grad_MH
                grad_table_CH[first:last].add_(masked_CMH.sum(1).sub_(lost_CH), alpha=weight)
        return grad_own_NH, grad_table_CH, None


@dataclass(frozen=True)
class _FieldChunk:
    """Some field nodes and the part of Â between them (m of them) and the labelled nodes that they reach (n).

    Attributes:
        start: Position of the first of the chunk's nodes in the field.
        rows_n: int64, the labelled nodes that the chunk's nodes reach.
        to_rows: For each labelled node in turn, the chunk's nodes (indices, offsets [n], weights).
        to_nodes: The transpose: for each node of the chunk, the labelled nodes (indices into N, offsets [m], weights).
    """

    start: int
    stop: int
    rows_n: Tensor
    to_rows: tuple[Tensor, Tensor, Tensor]
    to_nodes: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class ExplicitField:
    """Receptive field under any similarity and threshold: the field's nodes are listed, their edges grouped in chunks.

    Attributes:
        graph: The graph.
        features: Its nodes' features, compacted to the bits that vary.
        index_N: int64, the labelled nodes.
        field_R: int64, the distinct nodes of the field, in the order in which labelled nodes first meet them.
        chunks: The edges, by chunks of field nodes.
        expansion_AB: From the features' A varying bits, the only ones worked on, to all B.
        stored_RA: The propagated features of the field if they fit in 256 MB, else None (recomputed when used).
        device: Where to compute.
    """

    graph: HammingGraph
    features: FactorFeatures
    index_N: Int64Array
    field_R: Int64Array
    chunks: tuple[_FieldChunk, ...]
    expansion_AB: Tensor
    stored_RA: Tensor | None
    device: torch.device

    @classmethod
    def build(
        cls, graph: HammingGraph, features: FactorFeatures, index_N: Int64Array, device: torch.device | str
    ) -> "ExplicitField":
        """List the field of these nodes, group the edges and propagate the features once."""
        index_NK, weight_NK = graph.neighbour_table(index_N)
        index_NK = np.concatenate([np.asarray(index_N, dtype=np.int64)[:, None], index_NK], axis=1)
        weight_NK = np.concatenate([np.ones((len(weight_NK), 1)), weight_NK], axis=1)
        distinct_R, first_seen_R, position_E = np.unique(index_NK.ravel(), return_index=True, return_inverse=True)
        # Nodes that few labelled nodes reach then lie together, and a chunk touches few rows of the output.
        order_R = np.argsort(first_seen_R)
        rank_R = np.empty_like(order_R)
        rank_R[order_R] = np.arange(len(order_R))
        field_R = distinct_R[order_R]
        weight_NK /= np.sqrt(graph.degree(index_N))[:, None]
        weight_E = weight_NK.ravel() / np.sqrt(graph.degree(field_R))[rank_R[position_E]]
        chunks = tuple(
            _field_chunks(rank_R[position_E], index_NK.shape[1], weight_E.astype(np.float32), len(field_R), device)
        )
        compact, expansion = features.compacted()
        expansion_AB = torch.as_tensor(expansion, device=device)
        field = cls(graph, compact, index_N, field_R, chunks, expansion_AB, None, torch.device(device))
        if 4 * len(field_R) * compact.num_bits > _STORED_FEATURES_BYTES:
            return field
        stored_RA = torch.cat([field._propagated(field_R[chunk.start : chunk.stop]) for chunk in chunks])
        return replace(field, stored_RA=stored_RA)

    def propagated(self) -> Tensor:
        """Return [N, B], the nodes' propagated bits."""
        return self._propagated(self.index_N) @ self.expansion_AB

    def aggregate(self, weight_HB: Tensor, bias_H: Tensor) -> Tensor:
        """Return [N, H]; see :class:`ReceptiveField`."""
        result: Tensor = _ExplicitAggregate.apply(weight_HB @ self.expansion_AB.T, bias_H, self)  # type: ignore[no-untyped-call]
        return result

    def chunk_features(self, chunk: _FieldChunk) -> Tensor:
        """Return [m, A], the propagated features of a chunk's nodes."""
        if self.stored_RA is not None:
            return self.stored_RA[chunk.start : chunk.stop]
        return self._propagated(self.field_R[chunk.start : chunk.stop])

    def _propagated(self, index_M: Int64Array) -> Tensor:
        return torch.as_tensor(propagated_bits(self.graph, self.features, index_M), device=self.device)


def propagated_bits(graph: HammingGraph, features: FactorFeatures, index_N: Int64Array) -> Float32Array:
    """Return float32 [N, B], the rows of D^-1/2 (A + I) D^-1/2 X of any nodes of any Hamming graph."""
    return (graph.propagation_coefficients(index_N) @ features.stacked).astype(np.float32)


def _field_chunks(
    node_E: Int64Array, edges_per_row: int, weight_E: Float32Array, num_field: int, device: torch.device | str
) -> Iterator[_FieldChunk]:
    """Group the edges (labelled row, field node, weight) by chunks of field nodes, both ways round."""
    order_E = np.argsort(node_E, kind="stable")
    bounds = np.searchsorted(node_E[order_E], np.arange(0, num_field + _FIELD_CHUNK, _FIELD_CHUNK))
    for number, start in enumerate(range(0, num_field, _FIELD_CHUNK)):
        stop = min(start + _FIELD_CHUNK, num_field)
        edges = order_E[bounds[number] : bounds[number + 1]]
        node, row, weight = node_E[edges] - start, edges // edges_per_row, weight_E[edges]
        by_row = np.argsort(row, kind="stable")
        rows_n, row_offsets = np.unique(row[by_row], return_index=True)
        node_offsets = np.searchsorted(node, np.arange(stop - start))
        yield _FieldChunk(
            start=start,
            stop=stop,
            rows_n=torch.as_tensor(rows_n, device=device),
            to_rows=_bags(node[by_row], row_offsets, weight[by_row], device),
            to_nodes=_bags(row, node_offsets, weight, device),
        )


def _bags(
    indices: Int64Array, offsets: Int64Array, weights: Float32Array, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.as_tensor(indices, device=device),
        torch.as_tensor(offsets, device=device),
        torch.as_tensor(weights, device=device),
    )


def _weighted_sums(source: Tensor, bags: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Sparse times dense: for each bag the weighted sum of rows of ``source`` (no CSR tensors, which warn as beta)."""
    indices, offsets, weights = bags
    return embedding_bag(indices, source, offsets, mode="sum", per_sample_weights=weights)


class _ExplicitAggregate(torch.autograd.Function):
    """Σ_j Â_ij relu(x_j W + b) over the listed field, chunk by chunk; activations are recomputed in the backward."""

    @staticmethod
    def forward(ctx: Any, weight_HA: Tensor, bias_H: Tensor, field: ExplicitField) -> Tensor:
        """Sum the chunks' activations into the rows that they reach."""
        ctx.save_for_backward(weight_HA, bias_H)
        ctx.field = field
        sum_NH = weight_HA.new_zeros(len(field.index_N), len(bias_H))
        for chunk in field.chunks:
            hidden_mH = torch.addmm(bias_H, field.chunk_features(chunk), weight_HA.T).relu_()
            sum_NH[chunk.rows_n] += _weighted_sums(hidden_mH, chunk.to_rows)
        return sum_NH

    @staticmethod
    def backward(ctx: Any, grad_NH: Tensor) -> tuple[Tensor, Tensor, None]:
        """Bring the gradient to the chunk's nodes, mask it by their activations, and sum over nodes."""
        weight_HA, bias_H = ctx.saved_tensors
        field: ExplicitField = ctx.field
        grad_NH = grad_NH.contiguous()
        grad_weight_HA, grad_bias_H = torch.zeros_like(weight_HA), torch.zeros_like(bias_H)
        for chunk in field.chunks:
            features_mA = field.chunk_features(chunk)
            hidden_mH = torch.addmm(bias_H, features_mA, weight_HA.T)
            arriving_mH = _weighted_sums(grad_NH, chunk.to_nodes)
            masked_mH = torch.ops.aten.threshold_backward(arriving_mH, hidden_mH, 0)
            grad_weight_HA.addmm_(masked_mH.T, features_mA)
            grad_bias_H += masked_mH.sum(0)
        return grad_weight_HA, grad_bias_H, None
