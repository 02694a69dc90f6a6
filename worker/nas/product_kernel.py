"""Kernels of the Gaussian process over a product of factors, and their strengths by marginal likelihood.

One kernel per factor, from the Gray bits in which its choices differ; their elementary symmetric polynomials of degree
one, two and three (Duvenaud et al. 2011, "Additive Gaussian processes").
Legend: N pairs, F factors, C choices of a factor, P hyperparameters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array

OnStep = Callable[[], None]

TUNING_STEPS = 40
JITTER = 1e-5
_RELATIVE_JITTER = 1e-8
"""Of the mean variance. Tuning meets strengths so large that rounding alone makes negative eigenvalues."""

# Logarithms of: pairwise and triple strength, noise variance, how fast similarity falls with the bit distance; and the
# logit of the share of a factor's own variance that is common to all factors with the same choices.
_PRIOR_MEAN = (np.log(0.2), np.log(0.1), np.log(0.2), 0.0, 0.0)
_PRIOR_SD = (2.0, 2.0, 3.0, 1.0, 1.5)
NUM_COMMON = len(_PRIOR_MEAN)
_FACTOR_PRIOR_SD = ((1.0,), (0.7,))
_LEVEL_PRIOR_SD = 2.0
_BOUND = 9.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the same numbers on any machine, and many small steps that would wait for each other.

    On a busy machine two threads took sixteen times as long as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def standardised(value_N: Float64Array) -> Float64Array:
    """Return float64 [N] of mean zero and unit variance, the targets of a process; equal values are all zero."""
    return np.asarray((value_N - value_N.mean()) / max(float(value_N.std()), 1e-12))


def bit_distances(table_CB: np.ndarray) -> Tensor:
    """Return float64 [C, C], the number of Gray bits in which choices of a factor differ."""
    table = torch.as_tensor(table_CB, dtype=torch.float64)
    return torch.cdist(table, table, p=1.0)


@dataclass(frozen=True)
class Strengths:
    """The hyperparameters by name; see the prior's constants."""

    factors_F: Tensor
    interacting_F: Tensor
    pairwise: Tensor
    triple: Tensor
    noise: Tensor
    decay: Tensor
    common: Tensor

    @classmethod
    def of(cls, parameter_P: Tensor) -> "Strengths":
        """Read the strengths from float64 [P]: two logarithms per factor, then those of the prior's constants."""
        own_F, interacting_F = parameter_P[:-NUM_COMMON].exp().chunk(2)
        other = parameter_P[-NUM_COMMON:]
        pairwise, triple, noise, decay = other[:4].exp().unbind()
        return cls(own_F, interacting_F, pairwise, triple, noise, decay, torch.sigmoid(other[4]))


@dataclass(frozen=True)
class Factors:
    """What is known of the factors before any label.

    Attributes:
        distances: [C, C] per factor, the bit distances of its choices.
        alike: Groups of two and more factors with the same choices, judged by their distances.
    """

    distances: tuple[Tensor, ...]
    alike: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, features: FactorFeatures) -> "Factors":
        """Read the factors' choices from their Gray bits."""
        distances = tuple(bit_distances(table) for table in features.tables)
        groups: dict[tuple[float, ...], list[int]] = {}
        for factor, distance_CC in enumerate(distances):
            groups.setdefault(tuple(distance_CC.ravel().tolist()), []).append(factor)
        return cls(distances, tuple(tuple(group) for group in groups.values() if len(group) > 1))

    def kernels(self, decay: Tensor) -> list[Tensor]:
        """One [C, C] covariance of unit variance per factor; mean zero over its choices, so parts do not overlap."""
        return [_unit_kernel(distance_CC, decay) for distance_CC in self.distances]


def _unit_kernel(distance_CC: Tensor, decay: Tensor) -> Tensor:
    size = len(distance_CC)
    centring_CC = torch.eye(size, dtype=distance_CC.dtype) - 1.0 / size
    kernel_CC = centring_CC @ torch.exp(-decay * distance_CC) @ centring_CC
    return kernel_CC / kernel_CC.diagonal().mean().clamp_min(1e-9)


def covariances(
    strengths: Strengths, factors: Factors, choices_NF: Int64Array, other_MF: Int64Array | None = None
) -> tuple[Tensor, Tensor]:
    """Return float64 [N, M] twice: covariances of the additive part (with its constant) and of the interactions.

    Pairs and triples of factors are summed by Newton's identities.

    Args:
        strengths: The hyperparameters.
        factors: What is known of the factors.
        choices_NF: int64 [N, F], the factor choices of N nodes.
        other_MF: int64 [M, F], those of the nodes that they are set against; None: the same.
    """
    kernels = factors.kernels(strengths.decay)
    one_hots = _one_hots(kernels, choices_NF)
    others = one_hots if other_MF is None else _one_hots(kernels, other_MF)
    first, second, third = (torch.zeros(len(one_hots[0]), len(others[0]), dtype=torch.float64) for _ in range(3))
    own = 1.0 - strengths.common
    additive_NM = torch.ones_like(first)
    grouped = {factor for group in factors.alike for factor in group}
    for factor, (kernel_CC, one_hot_NC, other_MC) in enumerate(zip(kernels, one_hots, others, strict=True)):
        unit_NM = one_hot_NC @ kernel_CC @ other_MC.T
        share = own if factor in grouped else 1.0
        additive_NM = additive_NM + share * strengths.factors_F[factor] * unit_NM
        part_NM = strengths.interacting_F[factor] * unit_NM
        square_NM = part_NM * part_NM
        first, second, third = first + part_NM, second + square_NM, third + square_NM * part_NM
    for group in factors.alike:
        count_NC, count_MC = (
            sum((strengths.factors_F[f].sqrt() * hots[f] for f in group), torch.zeros_like(hots[group[0]]))
            for hots in (one_hots, others)
        )
        additive_NM = additive_NM + strengths.common * (count_NC @ kernels[group[0]] @ count_MC.T)
    square = first * first
    pairwise_NM = (square - second) / 2
    triple_NM = (first * square - 3 * first * second + 2 * third) / 6
    return additive_NM, strengths.pairwise * pairwise_NM + strengths.triple * triple_NM


def _one_hots(kernels: Sequence[Tensor], choices_NF: Int64Array) -> list[Tensor]:
    """float64 [N, C] per factor."""
    return [
        torch.eye(len(kernel_CC), dtype=torch.float64)[torch.as_tensor(np.ascontiguousarray(choices_NF[:, factor]))]
        for factor, kernel_CC in enumerate(kernels)
    ]


def noisy(covariance_NN: Tensor, noise: Tensor) -> Tensor:
    """Return the covariance of noisy labels, float64 [N, N], positive definite also in floating point."""
    jitter = JITTER + _RELATIVE_JITTER * covariance_NN.diagonal().mean()
    return covariance_NN + (noise + jitter) * torch.eye(len(covariance_NN), dtype=torch.float64)


def tune_strengths(
    factors: Factors,
    choices_NF: Int64Array,
    target_N: Float64Array,
    start_P: Tensor | None = None,
    steps: int = TUNING_STEPS,
    on_step: OnStep | None = None,
) -> tuple[Tensor, float]:
    """Return float64 [P], the strengths that maximise marginal likelihood times prior, and its logarithm.

    A constant is missing from the logarithm, the same for all targets of the same pairs.

    Args:
        factors: What is known of the factors.
        choices_NF: int64 [N, F], the pairs' factor choices.
        target_N: float64 [N], of about unit variance around zero.
        start_P: Where to start from; None: the prior's mean.
        steps: Of L-BFGS-B, at most.
        on_step: Called before every evaluation (some milliseconds to a tenth of a second); it may raise to cancel.
    """
    num_factors = len(factors.distances)
    level = -np.log(num_factors)
    mean_P = np.array([level] * (2 * num_factors) + list(_PRIOR_MEAN))
    labels_N = torch.as_tensor(target_N)

    def objective(value_P: Float64Array) -> tuple[float, Float64Array]:
        if on_step is not None:
            on_step()
        parameter_P = torch.tensor(value_P, requires_grad=True)
        strengths = Strengths.of(parameter_P)
        additive_NN, interaction_NN = covariances(strengths, factors, choices_NF)
        factor_NN = torch.linalg.cholesky(noisy(additive_NN + interaction_NN, strengths.noise))
        whitened_N = torch.linalg.solve_triangular(factor_NN, labels_N[:, None], upper=False)
        loss = 0.5 * (whitened_N**2).sum() + factor_NN.diagonal().log().sum() + _surprise(parameter_P, level)
        loss.backward()
        assert parameter_P.grad is not None
        return loss.item(), parameter_P.grad.numpy()

    bounds = [(value - _BOUND, value + _BOUND) for value in mean_P]
    first_P = mean_P if start_P is None else start_P.numpy()
    found = minimize(objective, first_P, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return torch.as_tensor(found.x), -float(found.fun)


def _surprise(parameter_P: Tensor, level: float) -> Tensor:
    """Negative log prior: strengths of any size, factors of similar strength unless the pairs say otherwise."""
    levels_2F = parameter_P[:-NUM_COMMON].reshape(2, -1)
    mean_21 = levels_2F.mean(1, keepdim=True)
    other = (parameter_P[-NUM_COMMON:] - torch.tensor(_PRIOR_MEAN)) / torch.tensor(_PRIOR_SD)
    spread = ((levels_2F - mean_21) / torch.tensor(_FACTOR_PRIOR_SD)) ** 2
    return 0.5 * (spread.sum() + (((mean_21 - level) / _LEVEL_PRIOR_SD) ** 2).sum() + (other**2).sum())
