"""Predictions of a fitted two-layer GCN for any architectures of the whole product space, without torch and graph.

The graph is the Hamming graph of all architectures under *assigned* similarity and a threshold of 1 (section 3.3,
step 2); it may have any number of nodes. All degrees are equal, so a node's first-layer pre-activation is a constant
plus one row of a table per cell, and a neighbour's is the same with one row exchanged.
Legend: N architectures, L cells, n_l choices of cell l, B bits, H and G units of the first and the second layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.hamming_graph import ASSIGNED_SIMILARITY, Float32Array
from app.domain.tensor_bytes import Tensors, pack, unpack

# Three temporaries of this size stay in a second-level cache.
_TEMPORARY_BYTES = 128 << 10

WEIGHTS = ("first_weight_HB", "first_bias_H", "second_weight_GH", "second_bias_G", "head_weight_G", "head_bias")


@dataclass(frozen=True, eq=False)
class HammingGCN:
    """The weights of a fitted network, and what its nodes look like.

    Attributes:
        bit_tables: Per cell, float32 [n_l, bits of the cell]: the Gray bits of its choices; B in all.
        first_weight_HB: Weights of the first graph convolution (``convs.0.lin.weight`` of the torch module).
        first_bias_H: Its bias.
        second_weight_GH: Weights of the second one.
        second_bias_G: Its bias.
        head_weight_G: Weights of the linear head.
        head_bias: Its bias, of shape [].
        edge_weight: The similarity of neighbours, in (0, 1].

    Raises:
        ValueError: If shapes do not fit together, or a number is not finite.
    """

    bit_tables: tuple[Float32Array, ...]
    first_weight_HB: Float32Array
    first_bias_H: Float32Array
    second_weight_GH: Float32Array
    second_bias_G: Float32Array
    head_weight_G: Float32Array
    head_bias: Float32Array
    edge_weight: float = ASSIGNED_SIMILARITY

    def __post_init__(self) -> None:
        object.__setattr__(self, "bit_tables", tuple(_float32(table, "bit_tables") for table in self.bit_tables))
        for name in WEIGHTS:
            object.__setattr__(self, name, _float32(getattr(self, name), name))
        if not self.bit_tables or any(table.ndim != 2 or not len(table) for table in self.bit_tables):
            raise ValueError("bit_tables needs one matrix per cell, [choices, bits], with at least one choice")
        if not 0 < self.edge_weight <= 1:
            raise ValueError(f"edge_weight must be above 0 and at most 1, got {self.edge_weight}")
        self._check_shapes()

    def _check_shapes(self) -> None:
        num_bits = sum(table.shape[1] for table in self.bit_tables)
        num_first, num_second = len(np.atleast_1d(self.first_bias_H)), len(np.atleast_1d(self.second_bias_G))
        expected = ((num_first, num_bits), (num_first,), (num_second, num_first), (num_second,), (num_second,), ())
        for name, shape in zip(WEIGHTS, expected, strict=True):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; with these biases it must be {shape}")

    @classmethod
    def from_state_dict(
        cls,
        bit_tables: Sequence[Float32Array],
        state: Mapping[str, NDArray[Any]],
        edge_weight: float = ASSIGNED_SIMILARITY,
    ) -> "HammingGCN":
        """Return the network of a torch ``state_dict`` (of ``worker.nas.gcn.GCN``) whose tensors are arrays by now.

        Raises:
            ValueError: If the state is not that of a network of two graph convolutions.
        """
        names = ("convs.0.lin.weight", "convs.0.bias", "convs.1.lin.weight", "convs.1.bias", "head.weight", "head.bias")
        if set(state) != set(names):
            raise ValueError(f"a GCN of two graph convolutions has the weights {sorted(names)}, not {sorted(state)}")
        arrays = [np.asarray(state[name]) for name in names]
        arrays[4], arrays[5] = arrays[4].ravel(), arrays[5].reshape(-1)[0]
        return cls(tuple(bit_tables), **dict(zip(WEIGHTS, arrays, strict=True)), edge_weight=edge_weight)

    def to_bytes(self) -> bytes:
        """Return the network as safetensors bytes."""
        tensors: Tensors = {name: getattr(self, name) for name in WEIGHTS}
        tensors |= {f"bits.{cell_index}": table for cell_index, table in enumerate(self.bit_tables)}
        return pack(tensors, {"edge_weight": repr(self.edge_weight)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "HammingGCN":
        """Return the network of :meth:`to_bytes`.

        Raises:
            ValueError: If the bytes hold no such network.
        """
        tensors, metadata = unpack(data)
        if missing := [name for name in WEIGHTS if name not in tensors]:
            raise ValueError(f"these bytes hold no GCN: {', '.join(missing)} is missing")
        num_cells = len(tensors) - len(WEIGHTS)
        bits = [tensors.get(f"bits.{cell_index}", np.zeros(0)) for cell_index in range(num_cells)]
        edge_weight = float(metadata.get("edge_weight", ASSIGNED_SIMILARITY))
        return cls(tuple(bits), **{name: tensors[name] for name in WEIGHTS}, edge_weight=edge_weight)

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices of every cell."""
        return tuple(len(table) for table in self.bit_tables)

    @property
    def work_per_prediction(self) -> float:
        """How long a prediction takes, in additions: sums over neighbours, and products at a quarter of their price."""
        num_first, num_second = len(self.first_bias_H), len(self.second_bias_G)
        return 2.0 * sum(self.factor_sizes) * num_first + num_first * num_second / 4

    @cached_property
    def _degree(self) -> float:
        return 1.0 + self.edge_weight * sum(size - 1 for size in self.factor_sizes)

    @cached_property
    def _rows(self) -> tuple[Float32Array, ...]:
        """Per cell, float32 [n_l, H]: what each choice adds to the first layer's pre-activation.

        Propagation mixes a cell's choices: a neighbour that differs in this cell brings its own choice's bits, all
        others bring the node's.
        """
        rows, first = [], 0
        for table in self.bit_tables:
            last = first + table.shape[1]
            bits = table.astype(np.float64)
            others = self.edge_weight * (bits.sum(0) - bits)
            own = (self._degree - self.edge_weight * (len(bits) - 1)) * bits
            rows.append(((own + others) / self._degree @ self.first_weight_HB[:, first:last].T).astype(np.float32))
            first = last
        return tuple(rows)

    def predict(self, choices_NL: ArrayLike) -> Float32Array:
        """Return float32 [N], the predicted accuracies of architectures given as choice indices.

        Raises:
            ValueError: If an index is not that of a choice.
        """
        choices = checked_choices(choices_NL, self.factor_sizes)
        hidden_NH = np.empty((len(choices), len(self.first_bias_H)), dtype=np.float32)
        length = max(8, _TEMPORARY_BYTES // (4 * hidden_NH.shape[1]))
        for start in range(0, len(choices), length):
            hidden_NH[start : start + length] = self._aggregate(choices[start : start + length])
        second_NG = hidden_NH @ self.second_weight_GH.T
        second_NG += self.second_bias_G
        np.maximum(second_NG, 0, out=second_NG)
        return np.asarray(second_NG @ self.head_weight_G + self.head_bias, dtype=np.float32)

    def _aggregate(self, choices_NL: NDArray[np.intp]) -> Float32Array:
        """Return [N, H], the first layer's activations summed over each node's neighbourhood.

        Every cell's sum runs over all of its choices, the node's own included; the surplus is taken off first.
        relu(rest + row) = max(rest, -row) + row, so the rows are summed apart, once.
        """
        own_NH = np.tile(self.first_bias_H, (len(choices_NL), 1))
        for cell_index, rows in enumerate(self._rows):
            own_NH += rows[choices_NL[:, cell_index]]
        sum_NH = np.zeros_like(own_NH)
        other_NH = np.empty_like(own_NH)
        for cell_index, rows in enumerate(self._rows):
            rest_NH = own_NH - rows[choices_NL[:, cell_index]]
            for row_H in rows:
                np.maximum(rest_NH, -row_H, out=other_NH)
                sum_NH += other_NH
        sum_NH += np.sum([rows.sum(0) for rows in self._rows], axis=0)
        sum_NH *= np.float32(self.edge_weight)
        np.maximum(own_NH, 0, out=own_NH)
        own_NH *= np.float32(1.0 - self.edge_weight * len(self._rows))
        sum_NH += own_NH
        sum_NH /= np.float32(self._degree)
        return sum_NH


def checked_choices(choices_NL: ArrayLike, factor_sizes: Sequence[int]) -> NDArray[np.intp]:
    """Return the choices as indices.

    Raises:
        ValueError: If there are not as many columns as cells, or a choice does not exist.
    """
    choices = np.asarray(choices_NL)
    if choices.ndim != 2 or choices.shape[1] != len(factor_sizes):
        raise ValueError(f"choices must be [architectures, {len(factor_sizes)}], got shape {choices.shape}")
    if choices.size and (choices.min() < 0 or (choices.max(0) >= np.asarray(factor_sizes)).any()):
        raise ValueError(f"the cells have {list(factor_sizes)} choices, counted from 0; a choice is none of them")
    return choices.astype(np.intp)


def _float32(values: ArrayLike, name: str) -> Float32Array:
    array = np.asarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite; do not publish this fit")
    return array
