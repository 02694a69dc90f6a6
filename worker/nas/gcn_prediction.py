"""Predictions of a fitted GCN for a whole subspace, by sums along its axes, or for any list of nodes.

The leading factors' choices are fixed slab by slab; a slab holds all nodes that share them. Within a slab neighbours
are summed along its axes; the neighbours in other slabs are recomputed, so memory does not grow with the subspace.
Legend: S nodes of a slab, H hidden units, B bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from app.domain.hamming_graph import FactorFeatures, Float32Array, Float64Array, HammingGraph, Int64Array
from worker.nas.gcn import GCN
from worker.nas.hamming_conv import adjacency_product, factor_adjacencies
from worker.nas.receptive_field import propagated_bits, receptive_field

OnProgress = Callable[[int, int], None]

_SLAB_BYTES = 8 << 20
_NODES_PER_LIST_CHUNK = 2048
_BITS_CHUNK = 16384

Lead = tuple[int, ...]


@dataclass(frozen=True)
class GCNFit:
    """A fitted GCN with all that its predictions need.

    Attributes:
        module: The network.
        graph: The graph over S_t that it was fitted on.
        features: Its nodes' Gray bits.
        loss_curve: float64 [epochs], the mean absolute error before each update.
        device: Where predictions are computed.
    """

    module: GCN
    graph: HammingGraph
    features: FactorFeatures
    loss_curve: Float64Array
    device: torch.device


def predict_nodes(fit: GCNFit, index_N: Int64Array) -> Float32Array:
    """Return float32 [N], the predicted accuracies of any nodes, also of a space too large to be listed.

    Raises:
        ValueError: If an index is not that of a node.
    """
    parts = [np.zeros(0, dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(index_N), _NODES_PER_LIST_CHUNK):
            chunk = index_N[start : start + _NODES_PER_LIST_CHUNK]
            parts.append(fit.module(receptive_field(fit.graph, fit.features, chunk, fit.device)).cpu().numpy())
    return np.concatenate(parts)


def predict_subspace(fit: GCNFit, on_progress: OnProgress | None = None) -> Float32Array:
    """Return float32 [num_nodes], the predicted accuracy of every architecture of S_t: the round's lookup table.

    Args:
        fit: What :func:`worker.nas.gcn_training.fit_gcn` returned.
        on_progress: Called with (nodes done, nodes in all) after every slab; it may raise to cancel.
    """
    predicted_N = np.empty(fit.graph.num_nodes, dtype=np.float32)
    with torch.inference_mode():
        for nodes, part in _predictions(fit):
            predicted_N[nodes] = part.cpu().numpy()
            if on_progress is not None:
                on_progress(nodes.stop, fit.graph.num_nodes)
    return predicted_N


def _predictions(fit: GCNFit) -> Iterator[tuple[slice, Tensor]]:
    """Predictions of consecutive runs of nodes, in index order."""
    first = fit.module.layers[0]
    if len(fit.module.layers) == 1:
        for nodes in _runs(fit.graph.num_nodes, _BITS_CHUNK):
            index = np.arange(nodes.start, nodes.stop, dtype=np.int64)
            bits = propagated_bits(fit.graph, fit.features, index)
            yield nodes, fit.module.read_out(torch.as_tensor(bits, device=fit.device))
        return
    num_leading = _num_leading(fit.graph.factor_sizes, first.bias.numel())
    slabs = _UniformSlabs if fit.graph.uniform_weights is not None else _MeasuredSlabs
    source: _Slabs = slabs(fit, num_leading)
    walk = _SlabWalk(fit.graph, source, num_leading, first.bias)
    for number, lead in enumerate(product(*map(range, fit.graph.factor_sizes[:num_leading]))):
        nodes = slice(number * walk.slab_size, (number + 1) * walk.slab_size)
        yield nodes, fit.module.read_out(walk.aggregate(lead).mul_(source.scale(nodes)))


def _runs(total: int, length: int) -> Iterator[slice]:
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))


def _num_leading(factor_sizes: tuple[int, ...], hidden_size: int) -> int:
    """Fix as few leading factors as bring a slab's activations below the byte limit: fewer means less recomputation."""
    for num_leading in range(len(factor_sizes)):
        if 4 * hidden_size * math.prod(factor_sizes[num_leading:]) <= _SLAB_BYTES:
            return num_leading
    return len(factor_sizes) - 1


class _Slabs(Protocol):
    """First-layer activations of one slab at a time, already multiplied by D^-1/2."""

    def activate(self, lead: Lead, out_SH: Tensor) -> None:
        """Write D^-1/2 relu(Â X W + b) of the slab's nodes."""

    def scale(self, nodes: slice) -> Tensor | float:
        """Return D^-1/2 of consecutive nodes, [S, 1] or one number for all."""


class _UniformSlabs:
    """*Assigned* similarity: degrees are constant, so pre-activations are one table per slab plus one row for its lead.

    relu(s p) = s relu(p) for s > 0, so D^-1/2 is multiplied into the tables once.
    """

    def __init__(self, fit: GCNFit, num_leading: int) -> None:
        first = fit.module.layers[0]
        self._scale = 1.0 / math.sqrt(fit.graph.degree(np.zeros(1, dtype=np.int64))[0])
        features = fit.graph.propagated(fit.features)
        weight_BH = first.lin.weight.T * self._scale
        tables = [torch.as_tensor(table, device=fit.device) @ weight_BH for table in features.tables]
        self._lead_tables = tables[:num_leading]
        inner_SH = (torch.as_tensor(features.constant, device=fit.device) @ weight_BH + first.bias * self._scale)[None]
        for table_CH in tables[num_leading:]:
            inner_SH = (inner_SH[:, None] + table_CH).flatten(0, 1)
        self._inner_SH = inner_SH

    def activate(self, lead: Lead, out_SH: Tensor) -> None:
        row_H = torch.zeros_like(self._inner_SH[0])
        for table_CH, choice in zip(self._lead_tables, lead, strict=True):
            row_H += table_CH[choice]
        torch.add(self._inner_SH, row_H, out=out_SH)
        out_SH.relu_()

    def scale(self, nodes: slice) -> float:
        return self._scale


class _MeasuredSlabs:
    """Any similarity: the propagated bits that vary are kept for all nodes (22 floats for 7 cells), times D^-1/2."""

    def __init__(self, fit: GCNFit, num_leading: int) -> None:
        first = fit.module.layers[0]
        graph = fit.graph
        self._slab_size = math.prod(graph.factor_sizes[num_leading:])
        self._strides = [stride // self._slab_size for stride in graph.strides[:num_leading]]
        compact, expansion = fit.features.compacted()
        weight_AH = torch.as_tensor(expansion, device=fit.device) @ first.lin.weight.T
        self._weight_AH = torch.cat([weight_AH, first.bias[None]])
        self._bits_NA = torch.empty(graph.num_nodes, len(self._weight_AH), device=fit.device)
        for nodes in _runs(graph.num_nodes, _BITS_CHUNK):
            index = np.arange(nodes.start, nodes.stop, dtype=np.int64)
            bits = torch.as_tensor(propagated_bits(graph, compact, index), device=fit.device)
            scale = torch.as_tensor(graph.degree(index) ** -0.5, dtype=torch.float32, device=fit.device)[:, None]
            self._bits_NA[nodes] = pad(bits, (0, 1), value=1.0) * scale

    def activate(self, lead: Lead, out_SH: Tensor) -> None:
        start = self._slab_size * sum(choice * stride for choice, stride in zip(lead, self._strides, strict=True))
        torch.mm(self._bits_NA[start : start + self._slab_size], self._weight_AH, out=out_SH)
        out_SH.relu_()

    def scale(self, nodes: slice) -> Tensor:
        return self._bits_NA[nodes, -1:]


class _SlabWalk:
    """Sums over the neighbourhoods of a slab's nodes, A + I times the slabs' activations."""

    def __init__(self, graph: HammingGraph, slabs: _Slabs, num_leading: int, like: Tensor) -> None:
        self.slab_size = math.prod(graph.factor_sizes[num_leading:])
        self._graph = graph
        self._slabs = slabs
        self._num_leading = num_leading
        self._inner_sizes = graph.factor_sizes[num_leading:]
        self._inner_factors = factor_adjacencies(graph, like)[num_leading:]
        self._own_SH, self._other_SH, self._scratch_SH = (
            like.new_empty(self.slab_size, like.numel()) for _ in range(3)
        )

    def aggregate(self, lead: Lead) -> Tensor:
        """Return [S, H]; with threshold 2 a move of a leading factor may be followed by one within the slab."""
        self._slabs.activate(lead, self._own_SH)
        moved_once_SH = self._gather(self._moves(lead), self._other_SH)
        if self._graph.hamming_threshold == 1:
            sums_SH = moved_once_SH.add_(self._own_SH)
            return sums_SH.add_(self._inner(self._own_SH, 1))
        sums_SH = self._inner(self._own_SH, 2).add_(self._own_SH).add_(moved_once_SH)
        sums_SH.add_(self._inner(moved_once_SH, 1))
        return sums_SH.add_(self._gather(self._double_moves(lead), self._other_SH))

    def _inner(self, x_SH: Tensor, hamming_threshold: int) -> Tensor:
        shaped = x_SH.reshape(*self._inner_sizes, -1)
        return adjacency_product(shaped, self._inner_factors, hamming_threshold).reshape(x_SH.shape)

    def _gather(self, moves: Iterator[tuple[Lead, float]], out_SH: Tensor) -> Tensor:
        """Sum the activations of other slabs with their edge weights."""
        out_SH.zero_()
        for lead, weight in moves:
            self._slabs.activate(lead, self._scratch_SH)
            out_SH.add_(self._scratch_SH, alpha=weight)
        return out_SH

    def _moves(self, lead: Lead) -> Iterator[tuple[Lead, float]]:
        for factor in range(self._num_leading):
            yield from self._moves_along(lead, factor)

    def _moves_along(self, lead: Lead, factor: int) -> Iterator[tuple[Lead, float]]:
        for choice, weight in enumerate(self._graph.similarities[factor][lead[factor]].tolist()):
            if choice != lead[factor]:
                yield (*lead[:factor], choice, *lead[factor + 1 :]), weight

    def _double_moves(self, lead: Lead) -> Iterator[tuple[Lead, float]]:
        for first, second in combinations(range(self._num_leading), 2):
            for once, weight in self._moves_along(lead, first):
                for twice, other in self._moves_along(once, second):
                    yield twice, weight * other
