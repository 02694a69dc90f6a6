"""How unsure a prediction is, by how far its architecture is from the pairs: the posterior variance of a process.

The pairs of a search lie around its rounds' subspaces, and so do those that are left out of its fits: their errors say
what to expect there. An answer under a tight limit may be far from all of them. A Gaussian process with interactions
knows that it knows nothing of those there, so its standard deviation stretches the interval (normalised conformal
prediction). Tables and sums in numpy: the API has no torch.
Legend: N architectures, M pairs that the process is conditioned on, L cells, C choices over all cells.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.hamming_graph import factor_offsets
from app.domain.tensor_bytes import Tensors
from app.domain.whole_space.additive_function import Float64Array

_PREFIX = "doubt."


@dataclass(frozen=True, eq=False)
class Doubt:
    """The standard deviation of a new z around its prediction, relative to that of a left-out pair.

    Attributes:
        factor_sizes: Number of choices of every cell.
        choices_ML: int64, the pairs.
        additive_CC: float64, covariances of the additive effects of all choices.
        interacting_CC: float64, those of one cell's choices in interactions; blocks of different cells are not used.
        inverse_MM: float64, of the covariance of the pairs' labels.
        pairwise: Strength of interactions of two cells.
        triple: Of three.
        noise: Variance of a label's noise.
        typical: Standard deviation of a left-out pair; what others are relative to.
    """

    factor_sizes: tuple[int, ...]
    choices_ML: NDArray[np.int64]
    additive_CC: Float64Array
    interacting_CC: Float64Array
    inverse_MM: Float64Array
    pairwise: float
    triple: float
    noise: float
    typical: float = 1.0

    @cached_property
    def _first_L(self) -> NDArray[np.int64]:
        return np.array([first for first, _ in factor_offsets(self.factor_sizes)])

    def stretch(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], how much wider the interval of each architecture is than a typical left-out pair's.

        Never narrower: the process knows what lies at and beside its pairs, but the predictions are not its own. They
        keep none of its interactions, and miss a pair that they were fitted to by as much as any other.
        """
        return np.maximum(self.deviation(choices_NL) / self.typical, 1.0)

    def deviation(self, choices_NL: ArrayLike) -> Float64Array:
        """Return float64 [N], the posterior standard deviation of each architecture's z, in the process's units."""
        return np.sqrt(self._variance(np.asarray(choices_NL, dtype=np.int64)))

    def left_out_deviation(self) -> Float64Array:
        """Return float64 [M], the same for the pairs themselves, each by the others."""
        return np.asarray(np.sqrt(1.0 / np.diag(self.inverse_MM)))

    def _variance(self, choices_NL: NDArray[np.int64]) -> Float64Array:
        one_hot_NL, pairs_ML = choices_NL + self._first_L, self.choices_ML + self._first_L
        shared_NM = self._covariance(one_hot_NL[:, None, :], pairs_ML[None, :, :])
        known_N = ((shared_NM @ self.inverse_MM) * shared_NM).sum(1)
        prior_N = self._covariance(one_hot_NL, one_hot_NL)
        # rounding must not take more than there is: a label is never surer than its noise
        return np.asarray(np.maximum(prior_N - known_N, 0.0) + self.noise)

    def _covariance(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Float64Array:
        """Covariances of z without noise; pairs and triples of cells are summed by Newton's identities."""
        parts = [self.interacting_CC[first[..., cell], second[..., cell]] for cell in range(len(self.factor_sizes))]
        first_, square, cube = sum(parts), sum(p * p for p in parts), sum(p * p * p for p in parts)
        pairs = (first_ * first_ - square) / 2
        triples = (first_ * first_ * first_ - 3 * first_ * square + 2 * cube) / 6
        return np.asarray(1.0 + self._additive(first, second) + self.pairwise * pairs + self.triple * triples)

    def _additive(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Float64Array:
        if first.ndim == 2:
            return np.asarray(self.additive_CC[first[:, :, None], first[:, None, :]].sum((1, 2)))
        rows_NC = self.additive_CC[first[:, 0, :]].sum(1)
        return np.asarray(sum(rows_NC[:, second[0, :, cell]] for cell in range(len(self.factor_sizes))))

    def tensors(self) -> Tensors:
        """Return it as named arrays."""
        numbers = np.array([self.pairwise, self.triple, self.noise, self.typical])
        arrays: Tensors = {
            "choices": self.choices_ML.astype(np.uint8),
            "additive": self.additive_CC,
            "interacting": self.interacting_CC,
            "inverse": self.inverse_MM,
            "numbers": numbers,
        }
        return {_PREFIX + name: array for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors, factor_sizes: tuple[int, ...]) -> "Doubt | None":
        """Read what :meth:`tensors` gave; None if there is nothing of it."""
        if _PREFIX + "numbers" not in tensors:
            return None
        names = ("choices", "additive", "interacting", "inverse")
        choices, additive, interacting, inverse = (tensors[_PREFIX + name] for name in names)
        numbers = tensors[_PREFIX + "numbers"].tolist()
        return cls(factor_sizes, choices.astype(np.int64), additive, interacting, inverse, *numbers)
