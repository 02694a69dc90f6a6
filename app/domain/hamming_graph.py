"""The graph of a subspace: nodes are architectures, edges join those that differ in one cell (section 3.3, step 2).

Legend: N nodes asked about, F factors, K neighbours of a node, n_f choices of factor f, C = 1 + sum of the n_f.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]

ASSIGNED_SIMILARITY = math.exp(-0.5)
"""The paper's weight of every edge under *assigned* similarity."""

_EXPLICIT_EDGES_LIMIT = 50_000_000


class HammingGraphError(ValueError):
    """A graph, its features or a node index is not usable; the message says what would be."""


@dataclass(frozen=True)
class FactorFeatures:
    """The Gray-bit features of a subspace's nodes, additive over its factors: ``constant + sum_f tables[f][choice]``.

    Attributes:
        constant: float32 [num_bits], the bits of the fixed cells, zero elsewhere.
        tables: One float32 [n_f, num_bits] per factor: the bits that each choice sets, zero outside the factor's cells.
    """

    constant: Float32Array
    tables: tuple[Float32Array, ...]

    def __post_init__(self) -> None:
        if self.constant.ndim != 1 or not self.constant.size:
            raise HammingGraphError(f"constant must be a vector of at least one bit, got shape {self.constant.shape}")
        for factor, table in enumerate(self.tables):
            if table.ndim != 2 or table.shape[1] != self.num_bits:
                raise HammingGraphError(
                    f"the bit table of factor {factor} has shape {table.shape}; it must be [choices, {self.num_bits}]"
                )

    @property
    def num_bits(self) -> int:
        """Length of a node's feature vector (57 for 19 cells of 6 choices)."""
        return int(self.constant.shape[0])

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices per factor, as the tables have it."""
        return tuple(len(table) for table in self.tables)

    @cached_property
    def stacked(self) -> Float32Array:
        """float32 [C, num_bits]: ``constant``, then the rows of all tables."""
        return np.concatenate([self.constant[None, :], *self.tables]).astype(np.float32)

    def compacted(self) -> tuple["FactorFeatures", Float32Array]:
        """Return the features without the bits that are the same in all nodes, and how to get them back.

        Returns:
            Features of A varying bits plus one that is 1 everywhere, and float32 [A + 1, num_bits], by which a row of
            them is multiplied for the full row. Propagation works on either, as it acts on nodes and not on bits.
        """
        varying_B = np.zeros(self.num_bits, dtype=bool)
        for table in self.tables:
            varying_B |= (table != 0).any(axis=0)
        expansion = np.eye(self.num_bits, dtype=np.float32)[varying_B]
        expansion = np.concatenate([expansion, np.where(varying_B, 0, self.constant).astype(np.float32)[None]])
        constant = np.append(self.constant[varying_B], np.float32(1))
        tables = tuple(np.pad(table[:, varying_B], ((0, 0), (0, 1))) for table in self.tables)
        return FactorFeatures(constant, tables), expansion

    def rows(self, choices_NF: Int64Array) -> Float32Array:
        """Return float32 [N, num_bits], the feature vectors of the nodes with these choices."""
        rows_NB = np.tile(self.constant.astype(np.float32), (len(choices_NF), 1))
        for factor, table in enumerate(self.tables):
            rows_NB += table[choices_NF[:, factor]]
        return rows_NB


@dataclass(frozen=True, eq=False)
class HammingGraph:
    """The graph G_t over the subspace S_t, never listed edge by edge: a Cartesian product of complete graphs.

    A node's index is mixed radix with the first factor most significant. Two nodes that differ in one factor f only
    are joined with weight ``similarities[f][a, b]``; with ``hamming_threshold`` 2 also those that differ in two, with
    the product of the two weights (for the paper's e^-0.5 that is exp(-distance / 2)). A super-cell is one factor.

    Attributes:
        factor_sizes: Number of choices of each factor.
        similarities: One symmetric float64 [n_f, n_f] per factor, in [0, 1], with a zero diagonal.
        hamming_threshold: Largest ``cell_distance`` of joined nodes, 1 (the paper's choice) or 2.

    Raises:
        HammingGraphError: If sizes, matrices or threshold are not as described, or an index would not fit 63 bits.
    """

    factor_sizes: tuple[int, ...]
    similarities: tuple[Float64Array, ...]
    hamming_threshold: int = 1

    def __post_init__(self) -> None:
        _check_factor_sizes(self.factor_sizes)
        if self.hamming_threshold not in (1, 2):
            raise HammingGraphError(f"hamming_threshold must be 1 or 2, got {self.hamming_threshold}")
        if len(self.similarities) != len(self.factor_sizes):
            raise HammingGraphError(
                f"{len(self.similarities)} similarity matrices for {len(self.factor_sizes)} factors; give one each"
            )
        for factor, (size, matrix) in enumerate(zip(self.factor_sizes, self.similarities, strict=True)):
            _check_similarity(factor, size, matrix)

    @classmethod
    def assigned(
        cls, factor_sizes: Sequence[int], weight: float = ASSIGNED_SIMILARITY, hamming_threshold: int = 1
    ) -> "HammingGraph":
        """Return the graph with *assigned* similarity: the same weight on every edge between nodes one cell apart."""
        matrices = tuple(weight * (1.0 - np.eye(size)) for size in factor_sizes)
        return cls(tuple(factor_sizes), matrices, hamming_threshold)

    @classmethod
    def measured(cls, similarities: Sequence[Float64Array], hamming_threshold: int = 1) -> "HammingGraph":
        """Return the graph with *measured* similarity: a matrix per factor, the changed choice counts."""
        return cls(tuple(len(matrix) for matrix in similarities), tuple(similarities), hamming_threshold)

    @property
    def num_nodes(self) -> int:
        """Number of architectures in S_t (an exact int, also beyond what could be listed)."""
        return math.prod(self.factor_sizes)

    @property
    def num_neighbours(self) -> int:
        """Number of neighbours of every node: 35 for seven cells of six choices."""
        others = [size - 1 for size in self.factor_sizes]
        pairs = sum(a * b for a, b in combinations(others, 2)) if self.hamming_threshold == 2 else 0
        return sum(others) + pairs

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Weight of each factor's digit in the node index."""
        return tuple(math.prod(self.factor_sizes[factor + 1 :]) for factor in range(len(self.factor_sizes)))

    @cached_property
    def uniform_weights(self) -> tuple[float, ...] | None:
        """One weight per factor if all edges along a factor weigh the same (*assigned*), so that degrees are constant.

        None if some factor's weights depend on the choices.
        """
        weights = []
        for matrix in self.similarities:
            off_diagonal = matrix[~np.eye(len(matrix), dtype=bool)]
            if off_diagonal.size and np.ptp(off_diagonal) > 0:
                return None
            weights.append(float(off_diagonal[0]) if off_diagonal.size else 0.0)
        return tuple(weights)

    def choices(self, index_N: Int64Array) -> Int64Array:
        """Return int64 [N, F], the choice of each factor.

        Raises:
            HammingGraphError: If an index is not that of a node.
        """
        index_N = np.asarray(index_N, dtype=np.int64)
        if index_N.size and (index_N.min() < 0 or index_N.max() >= self.num_nodes):
            raise HammingGraphError(f"node indices must be from 0 to {self.num_nodes - 1}")
        return np.stack(
            [index_N // stride % size for stride, size in zip(self.strides, self.factor_sizes, strict=True)], axis=-1
        )

    def index(self, choices_NF: Int64Array) -> Int64Array:
        """Return int64 [N], the node index of each row of choices (inverse of :meth:`choices`)."""
        return np.asarray(choices_NF, dtype=np.int64) @ np.asarray(self.strides, dtype=np.int64)

    def degree(self, index_N: Int64Array) -> Float64Array:
        """Return float64 [N], the diagonal of D in D^-1/2 (A + I) D^-1/2: the edge weights plus the unit self-loop."""
        return self._degree_of_row_sums(self._row_sums(self.choices(index_N)))

    def neighbour_table(self, index_N: Int64Array) -> tuple[Int64Array, Float64Array]:
        """Return int64 [N, K] neighbours and float64 [N, K] edge weights; K is the same for every node."""
        choices_NF = self.choices(index_N)
        moves = [self._moves(choices_NF, factor) for factor in range(len(self.factor_sizes))]
        offsets = [offset for offset, _ in moves]
        weights = [weight for _, weight in moves]
        if self.hamming_threshold == 2:
            rows = len(choices_NF)
            for (offset_f, weight_f), (offset_g, weight_g) in combinations(moves, 2):
                offsets.append((offset_f[:, :, None] + offset_g[:, None, :]).reshape(rows, -1))
                weights.append((weight_f[:, :, None] * weight_g[:, None, :]).reshape(rows, -1))
        return np.asarray(index_N, dtype=np.int64)[:, None] + np.concatenate(offsets, 1), np.concatenate(weights, 1)

    def neighbours(self, index: int) -> tuple[Int64Array, Float64Array]:
        """Return int64 [K] neighbours of one node and float64 [K] their edge weights."""
        index_1K, weight_1K = self.neighbour_table(np.array([index]))
        return index_1K[0], weight_1K[0]

    def receptive_field(self, index_N: Int64Array) -> Int64Array:
        """Return the sorted, distinct indices of the nodes themselves and all their neighbours (one hop)."""
        index_NK, _ = self.neighbour_table(index_N)
        return np.unique(np.concatenate([np.asarray(index_N, dtype=np.int64), index_NK.ravel()]))

    def edges(self) -> tuple[Int64Array, Float64Array]:
        """Return int64 [2, E] and float64 [E], every directed edge: the plain form, for small graphs and as oracle.

        Raises:
            HammingGraphError: If the list would have more than 50 million edges.
        """
        if self.num_nodes * self.num_neighbours > _EXPLICIT_EDGES_LIMIT:
            raise HammingGraphError(
                f"{self.num_nodes} nodes of {self.num_neighbours} neighbours are too many to list; "
                f"at most {_EXPLICIT_EDGES_LIMIT} edges can be"
            )
        source_N = np.arange(self.num_nodes, dtype=np.int64)
        target_NK, weight_NK = self.neighbour_table(source_N)
        return np.stack([np.repeat(source_N, self.num_neighbours), target_NK.ravel()]), weight_NK.ravel()

    def propagation_coefficients(self, index_N: Int64Array) -> Float64Array:
        """Return float64 [N, C] such that ``coefficients @ features.stacked`` is what one propagation does to the bits.

        With features additive over factors, row i of D^-1/2 (A + I) D^-1/2 X needs no sum over neighbours' vectors,
        only the normalised weight that reaches each choice: column 0 is the total weight of row i, and the column of
        (factor f, choice c) the weight of those nodes j in its neighbourhood (i included) whose factor f has choice c.
        """
        choices_NF = self.choices(index_N)
        row_sum_NF = self._row_sums(choices_NF)
        scale_N = 1.0 / np.sqrt(self._degree_of_row_sums(row_sum_NF))
        reach = [
            self.similarities[factor][choices_NF[:, factor]] * self._inverse_root_degree(row_sum_NF, (factor,))
            for factor in range(len(self.factor_sizes))
        ]
        total_N = scale_N + sum(weight.sum(1) for weight in reach)
        if self.hamming_threshold == 2:
            for first, second, pair_NCC in self._pair_weights(choices_NF, row_sum_NF):
                reach[first] = reach[first] + pair_NCC.sum(2)
                reach[second] = reach[second] + pair_NCC.sum(1)
                total_N = total_N + pair_NCC.sum((1, 2))
        for factor, weight in enumerate(reach):
            # Whatever does not change this factor arrives with the node's own choice.
            weight[np.arange(len(weight)), choices_NF[:, factor]] = total_N - weight.sum(1)
        return np.concatenate([total_N[:, None], *reach], axis=1) * scale_N[:, None]

    def propagated(self, features: FactorFeatures) -> FactorFeatures:
        """Return the features after one propagation, D^-1/2 (A + I) D^-1/2 X: additive again, as degrees are constant.

        Raises:
            HammingGraphError: If the similarity depends on the choices; use :meth:`propagation_coefficients` then.
        """
        if self.uniform_weights is None:
            raise HammingGraphError("features stay additive only if all edges along a factor weigh the same")
        tables = []
        spans = factor_offsets(self.factor_sizes)
        for stride, size, (first, last), table in zip(
            self.strides, self.factor_sizes, spans, features.tables, strict=True
        ):
            mixing_CC = self.propagation_coefficients(np.arange(size, dtype=np.int64) * stride)[:, 1 + first : 1 + last]
            tables.append((mixing_CC @ table).astype(np.float32))
        return FactorFeatures(features.constant, tuple(tables))

    def _moves(self, choices_NF: Int64Array, factor: int) -> tuple[Int64Array, Float64Array]:
        """Index offsets and weights [N, n_f - 1] of the nodes that differ in this factor only."""
        size = self.factor_sizes[factor]
        own_N1 = choices_NF[:, factor, None]
        other_NM = np.arange(size - 1)[None, :] + (np.arange(size - 1)[None, :] >= own_N1)
        return (other_NM - own_N1) * self.strides[factor], self.similarities[factor][own_N1, other_NM]

    def _row_sums(self, choices_NF: Int64Array) -> Float64Array:
        """float64 [N, F]: the total weight of the edges along each factor."""
        return np.stack(
            [matrix.sum(1)[choices_NF[:, factor]] for factor, matrix in enumerate(self.similarities)], axis=1
        )

    def _degree_of_row_sums(self, row_sum_NF: Float64Array) -> Float64Array:
        """Degrees are elementary symmetric polynomials of the factors' row sums, so they cost no sum over edges."""
        total_N = row_sum_NF.sum(1)
        return self._degree_of_sums(total_N, (row_sum_NF**2).sum(1))

    def _degree_of_sums(self, total: Float64Array, total_of_squares: Float64Array) -> Float64Array:
        if self.hamming_threshold == 1:
            return 1.0 + total
        return 1.0 + total + (total**2 - total_of_squares) / 2

    def _inverse_root_degree(self, row_sum_NF: Float64Array, changed: tuple[int, ...]) -> Float64Array:
        """D^-1/2 of the nodes that have any choice in the changed factors: [N, n_f] or [N, n_f, n_g]."""
        total = (row_sum_NF.sum(1) - row_sum_NF[:, changed].sum(1))[:, None]
        squares = ((row_sum_NF**2).sum(1) - (row_sum_NF[:, changed] ** 2).sum(1))[:, None]
        for factor in changed:
            new = self.similarities[factor].sum(1)
            total, squares = total[..., None] + new, squares[..., None] + new**2
        return np.asarray(1.0 / np.sqrt(self._degree_of_sums(total, squares)))[:, 0]

    def _pair_weights(
        self, choices_NF: Int64Array, row_sum_NF: Float64Array
    ) -> Iterator[tuple[int, int, Float64Array]]:
        """For each pair of factors, [N, n_f, n_g]: edge weight times D^-1/2 of the nodes that differ in both."""
        for first, second in combinations(range(len(self.factor_sizes)), 2):
            weight_f = self.similarities[first][choices_NF[:, first]][:, :, None]
            weight_g = self.similarities[second][choices_NF[:, second]][:, None, :]
            yield first, second, weight_f * weight_g * self._inverse_root_degree(row_sum_NF, (first, second))


def factor_offsets(factor_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return each factor's (first, last + 1) among the concatenated choices of all factors."""
    return list(pairwise([0, *np.cumsum(factor_sizes).tolist()]))


def _check_factor_sizes(factor_sizes: tuple[int, ...]) -> None:
    if not factor_sizes or min(factor_sizes) < 1:
        raise HammingGraphError(
            f"a subspace needs at least one factor, each of at least one choice, got {factor_sizes}"
        )
    if math.prod(factor_sizes) >= 2**63:
        raise HammingGraphError("the subspace has 2**63 nodes or more; search fewer cells at a time")


def _check_similarity(factor: int, size: int, matrix: Float64Array) -> None:
    if matrix.shape != (size, size):
        raise HammingGraphError(f"the similarity of factor {factor} has shape {matrix.shape}, not {(size, size)}")
    if not np.isfinite(matrix).all() or matrix.min() < 0 or matrix.max() > 1:
        raise HammingGraphError(f"the similarities of factor {factor} must be from 0 to 1")
    if not np.array_equal(matrix, matrix.T) or np.diagonal(matrix).any():
        raise HammingGraphError(f"the similarity of factor {factor} must be symmetric with a zero diagonal")
