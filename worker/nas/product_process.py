"""A Gaussian process over a product of factors: additive, pairwise and triple parts, and how much noise there is.

With few labels this is close to the best that can be done on such a space: one kernel per factor, from the Gray bits
in which its choices differ; their elementary symmetric polynomials of degree one, two and three (Duvenaud et al. 2011,
"Additive Gaussian processes"); strengths and noise by marginal likelihood. The posterior mean is a
:class:`~app.domain.factorial_model.FactorialModel`: tables, no sum over pairs, so that predicting costs nothing.
Legend: N pairs, F factors, C choices of a factor, P hyperparameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from app.domain.additive_model import AdditiveModel
from app.domain.factorial_model import FactorialModel, Interaction
from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array

_TUNING_PAIRS = 512
"""Pairs that the marginal likelihood sees: its cost grows with their cube, and strengths need no more."""
_MAX_PAIRS = 3000
_TUNING_STEPS = 40
_JITTER = 1e-5

# Logarithms of: pairwise and triple strength, noise variance, and how fast similarity falls with the bit distance.
_PRIOR_MEAN = (np.log(0.05), np.log(0.02), np.log(0.2), 0.0)
_PRIOR_SD = (2.0, 2.0, 3.0, 1.0)
_FACTOR_PRIOR_SD = 1.0
_LEVEL_PRIOR_SD = 2.0
_BOUND = 9.0


@dataclass(frozen=True, eq=False)
class ProcessFit:
    """A fitted process, in the units of its targets.

    Attributes:
        model: The posterior mean, part by part.
        left_out_additive_N: float64, the additive part for each pair, fitted without it.
        left_out_interaction_N: float64, the rest likewise.
        noise_variance: Of the labels.
        factor_variances: float64 [F], prior variance that each factor's own part was given.
    """

    model: FactorialModel
    left_out_additive_N: Float64Array
    left_out_interaction_N: Float64Array
    noise_variance: float
    factor_variances: Float64Array


def fit_process(
    features: FactorFeatures,
    choices_NF: Int64Array,
    target_N: Float64Array,
    rng: np.random.Generator,
    noise_scale_N: Float64Array | None = None,
) -> ProcessFit:
    """Fit the process to targets of about unit variance around zero (normal scores).

    Args:
        features: The Gray bits of the factors' choices.
        choices_NF: int64 [N, F], the pairs' factor choices.
        target_N: float64 [N], finite.
        rng: Chooses the pairs that are used where there are too many.
        noise_scale_N: float64 [N], variances of the labels' noise relative to each other; None: all the same.
    """
    distances = tuple(bit_distances(table) for table in features.tables)
    scale_N = torch.ones(len(target_N), dtype=torch.float64) if noise_scale_N is None else torch.as_tensor(noise_scale_N)
    tuning = _subset(len(target_N), _TUNING_PAIRS, rng)
    parameter_P = _tune(distances, choices_NF[tuning], torch.as_tensor(target_N[tuning]), scale_N[tuning])
    kept = _subset(len(target_N), _MAX_PAIRS, rng)
    return _posterior(parameter_P, distances, choices_NF, np.asarray(target_N, dtype=np.float64), scale_N, kept)


def bit_distances(table_CB: np.ndarray) -> Tensor:
    """Return float64 [C, C], the number of Gray bits in which choices of a factor differ."""
    table = torch.as_tensor(table_CB, dtype=torch.float64)
    return torch.cdist(table, table, p=1.0)


def _subset(total: int, wanted: int, rng: np.random.Generator) -> Int64Array:
    return np.sort(rng.permutation(total)[:wanted]) if total > wanted else np.arange(total)


@dataclass(frozen=True)
class _Strengths:
    """The hyperparameters by name; see the prior's constants."""

    factors_F: Tensor
    pairwise: Tensor
    triple: Tensor
    noise: Tensor
    decay: Tensor

    @classmethod
    def of(cls, parameter_P: Tensor) -> "_Strengths":
        return cls(parameter_P[:-4].exp(), *parameter_P[-4:].exp())


def _factor_kernels(strengths: _Strengths, distances: Sequence[Tensor]) -> list[Tensor]:
    """One [C, C] covariance per factor, with mean zero over its choices so that the parts do not overlap."""
    kernels = []
    for variance, distance_CC in zip(strengths.factors_F, distances, strict=True):
        size = len(distance_CC)
        centring_CC = torch.eye(size, dtype=distance_CC.dtype) - 1.0 / size
        kernel_CC = centring_CC @ torch.exp(-strengths.decay * distance_CC) @ centring_CC
        kernels.append(variance * kernel_CC / kernel_CC.diagonal().mean().clamp_min(1e-9))
    return kernels


def _covariances(
    strengths: _Strengths, distances: Sequence[Tensor], choices_NF: Int64Array
) -> tuple[Tensor, Tensor]:
    """[N, N] covariances of the additive part (and constant) and of the interactions, by Newton's identities."""
    sums = [torch.zeros(len(choices_NF), len(choices_NF), dtype=torch.float64) for _ in range(3)]
    for factor, kernel_CC in enumerate(_factor_kernels(strengths, distances)):
        one_hot_NC = torch.eye(len(kernel_CC), dtype=torch.float64)[torch.as_tensor(choices_NF[:, factor])]
        part_NN = one_hot_NC @ kernel_CC @ one_hot_NC.T
        square_NN = part_NN * part_NN
        sums = [sums[0] + part_NN, sums[1] + square_NN, sums[2] + square_NN * part_NN]
    first, second, third = sums
    square = first * first
    pairwise_NN = (square - second) / 2
    triple_NN = (first * square - 3 * first * second + 2 * third) / 6
    return first + 1.0, strengths.pairwise * pairwise_NN + strengths.triple * triple_NN


def _tune(distances: Sequence[Tensor], choices_NF: Int64Array, target_N: Tensor, scale_N: Tensor) -> Tensor:
    """Return float64 [P], the strengths that maximise marginal likelihood times prior."""
    num_factors = len(distances)
    level = -np.log(num_factors)
    start_P = np.array([level] * num_factors + list(_PRIOR_MEAN))

    def objective(value_P: Float64Array) -> tuple[float, Float64Array]:
        parameter_P = torch.tensor(value_P, requires_grad=True)
        strengths = _Strengths.of(parameter_P)
        additive_NN, interaction_NN = _covariances(strengths, distances, choices_NF)
        factor_NN = torch.linalg.cholesky(
            additive_NN + interaction_NN + torch.diag(strengths.noise * scale_N + _JITTER)
        )
        whitened_N = torch.linalg.solve_triangular(factor_NN, target_N[:, None], upper=False)
        loss = 0.5 * (whitened_N**2).sum() + factor_NN.diagonal().log().sum() + _surprise(parameter_P, level)
        loss.backward()  # type: ignore[no-untyped-call]
        assert parameter_P.grad is not None
        return loss.item(), parameter_P.grad.numpy()

    bounds = [(value - _BOUND, value + _BOUND) for value in start_P]
    found = minimize(
        objective, start_P, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _TUNING_STEPS}
    )
    return torch.as_tensor(found.x)


def _surprise(parameter_P: Tensor, level: float) -> Tensor:
    """Negative log prior: strengths of any size, factors of similar strength unless the pairs say otherwise."""
    factors_F = parameter_P[:-4]
    mean = factors_F.mean()
    other = (parameter_P[-4:] - torch.tensor(_PRIOR_MEAN)) / torch.tensor(_PRIOR_SD)
    spread = ((factors_F - mean) / _FACTOR_PRIOR_SD) ** 2
    return 0.5 * (spread.sum() + ((mean - level) / _LEVEL_PRIOR_SD) ** 2 + (other**2).sum())


def _posterior(
    parameter_P: Tensor,
    distances: Sequence[Tensor],
    choices_NF: Int64Array,
    target_N: Float64Array,
    scale_N: Tensor,
    kept_K: Int64Array,
) -> ProcessFit:
    strengths = _Strengths.of(parameter_P)
    additive_KK, interaction_KK = _covariances(strengths, distances, choices_NF[kept_K])
    noisy_KK = additive_KK + interaction_KK
    noisy_KK.diagonal().add_(strengths.noise * scale_N[kept_K] + _JITTER)
    inverse_KK = torch.cholesky_inverse(torch.linalg.cholesky(noisy_KK))
    del noisy_KK
    weight_K = inverse_KK @ torch.as_tensor(target_N[kept_K])
    model = _tables(strengths, distances, choices_NF[kept_K], weight_K.numpy())
    left_out = [model.additive.predict(choices_NF), model.predict_interactions(choices_NF)]
    for part_N, covariance_KK in zip(left_out, (additive_KK, interaction_KK), strict=True):
        # Without pair i the weights are alpha - K^-1[:, i] alpha_i / K^-1[i, i], whose i-th is zero.
        surplus_K = (covariance_KK * inverse_KK).sum(1) * weight_K / inverse_KK.diagonal()
        part_N[kept_K] = (covariance_KK @ weight_K - surplus_K).numpy()
    return ProcessFit(
        model, left_out[0], left_out[1], strengths.noise.item(), strengths.factors_F.numpy().copy()
    )


def _tables(
    strengths: _Strengths, distances: Sequence[Tensor], choices_NF: Int64Array, weight_N: Float64Array
) -> FactorialModel:
    """The posterior mean: for every combination of factors, the weights summed per choices, times their kernels."""
    kernels = [kernel.numpy() for kernel in _factor_kernels(strengths, distances)]
    additive = AdditiveModel(
        float(weight_N.sum()),
        tuple(_table((factor,), kernels, choices_NF, weight_N) for factor in range(len(kernels))),
    )
    interactions = [
        Interaction(factors, strength.item() * _table(factors, kernels, choices_NF, weight_N))
        for degree, strength in ((2, strengths.pairwise), (3, strengths.triple))
        for factors in combinations(range(len(kernels)), degree)
    ]
    return FactorialModel(additive, tuple(interactions))


def _table(
    factors: tuple[int, ...], kernels: Sequence[Float64Array], choices_NF: Int64Array, weight_N: Float64Array
) -> Float64Array:
    shape = tuple(len(kernels[factor]) for factor in factors)
    cell_N = np.ravel_multi_index(tuple(choices_NF[:, factor] for factor in factors), shape)
    table = np.bincount(cell_N, weights=weight_N, minlength=int(np.prod(shape))).reshape(shape)
    for axis, factor in enumerate(factors):
        table = np.moveaxis(np.tensordot(kernels[factor], table, axes=(1, axis)), 0, axis)
    return table
