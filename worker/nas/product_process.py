"""A Gaussian process over a product of factors: additive, pairwise and triple parts, and how much noise there is.

With few labels this is close to the best that can be done on such a space. The posterior mean is a
:class:`~app.domain.factorial_model.FactorialModel`: tables, no sum over pairs, so that predicting costs nothing.
Legend: N pairs, F factors, P hyperparameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from app.domain.factorial_model import FactorialModel, Interaction
from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array
from app.domain.whole_space.additive_function import AdditiveFunction
from worker.nas.product_kernel import (
    Factors,
    OnStep,
    Strengths,
    covariances,
    noisy,
    one_thread,
    standardised,
    tune_strengths,
)

MIN_PAIRS = 10

_TUNING_PAIRS = 512
"""Pairs that the marginal likelihood sees: its cost grows with their cube, and strengths need no more."""
_NOISE_PAIRS = 256
_MAX_PAIRS = 6500
"""Pairs that predictions are conditioned on: all of the paper's three rounds. More would take gigabytes."""
_ROWS_PER_STEP = 512
_MAX_REFITTED = 512
_NUM_FOLDS = 4
_RETUNING_STEPS = 15


@dataclass(frozen=True, eq=False)
class ProcessFit:
    """A fitted process, in the units of its targets.

    Attributes:
        model: The posterior mean, part by part.
        left_out_additive_N: float64, the additive part for each pair, fitted without it.
        left_out_interaction_N: float64, the rest likewise.
        noise_variance: Of the labels.
        factor_variances: float64 [F], prior variance that each factor's own part was given.
        num_pairs: How many pairs the posterior mean is conditioned on: all, or as many as are used at the most.
    """

    model: FactorialModel
    left_out_additive_N: Float64Array
    left_out_interaction_N: Float64Array
    noise_variance: float
    factor_variances: Float64Array
    num_pairs: int

    @property
    def interaction_share(self) -> float:
        """Share of the interactions in the variance of the left-out predictions."""
        total_N = self.left_out_additive_N + self.left_out_interaction_N
        return float(np.clip(self.left_out_interaction_N.var() / max(total_N.var(), 1e-12), 0.0, 1.0))


def fit_process(
    features: FactorFeatures,
    choices_NF: Int64Array,
    target_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None = None,
) -> ProcessFit:
    """Fit the process to targets of about unit variance around zero (normal scores).

    Args:
        features: The Gray bits of the factors' choices.
        choices_NF: int64 [N, F], the pairs' factor choices.
        target_N: float64 [N], finite.
        rng: Chooses the pairs that are used where there are too many, and those that are left out together.
        on_step: Called every few milliseconds; it may raise to cancel.
    """
    with one_thread():
        return _fit(Factors.of(features), choices_NF, np.asarray(target_N, dtype=np.float64), rng, on_step)


def _fit(
    factors: Factors,
    choices_NF: Int64Array,
    target_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None,
) -> ProcessFit:
    tuning = _subset(len(target_N), _TUNING_PAIRS, rng)
    parameter_P, _ = tune_strengths(factors, choices_NF[tuning], target_N[tuning], on_step=on_step)
    fit = _posterior(parameter_P, factors, choices_NF, target_N, _subset(len(target_N), _MAX_PAIRS, rng), on_step)
    if len(target_N) > _MAX_REFITTED:
        return fit
    additive_N, interaction_N = _left_out(parameter_P, factors, choices_NF, target_N, rng, on_step)
    return replace(fit, left_out_additive_N=additive_N, left_out_interaction_N=interaction_N)


def _left_out(
    parameter_P: Tensor,
    factors: Factors,
    choices_NF: Int64Array,
    target_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None,
) -> Float64Array:
    """float64 [2, N], both parts for each pair by a process whose strengths were tuned without it as well.

    The closed form leaves a pair out of the tables, but not of the strengths, which were tuned on all. With few pairs
    that makes errors look too small: 81 to 86 % of new labels were inside 90 % intervals. So strengths are tuned
    without a fold, and the tables of its pairs are of all others, each left out by itself: tables without a whole fold
    would make errors look too large where every further pair tells much (98 % inside).
    """
    fold_N = rng.permutation(np.arange(len(target_N)) % _NUM_FOLDS)
    left_out_2N = np.empty((2, len(target_N)))
    for fold in range(_NUM_FOLDS):
        left, kept = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        tuned_P, _ = tune_strengths(factors, choices_NF[kept], target_N[kept], parameter_P, _RETUNING_STEPS, on_step)
        _, by_others_2N = _conditioned(Strengths.of(tuned_P), factors, choices_NF, target_N, on_step)
        left_out_2N[:, left] = by_others_2N[:, left]
    return left_out_2N


def check_pairs(index_N: Int64Array, accuracy_N: Float64Array) -> None:
    """Raise what is wrong with pairs.

    Raises:
        ValueError: If there are fewer than ten pairs, lengths differ, or an accuracy is not in [0, 1].
    """
    if len(index_N) != len(accuracy_N):
        raise ValueError(f"{len(index_N)} nodes but {len(accuracy_N)} accuracies; give one accuracy per node")
    if len(index_N) < MIN_PAIRS:
        raise ValueError(f"fitting needs at least {MIN_PAIRS} pairs, got {len(index_N)}; sample more architectures")
    if not np.isfinite(accuracy_N).all() or accuracy_N.min() < 0 or accuracy_N.max() > 1:
        raise ValueError("accuracies are finite fractions from 0 to 1; leave failed pairs out, divide percents by 100")


def averaged_pairs(index_N: Int64Array, accuracy_N: Float64Array) -> tuple[Int64Array, Float64Array]:
    """Return each node once, with the mean of its accuracies; pairs without duplicates as they are.

    Two noisy readings of one node would be told apart by nothing, and a left-out pair would be known by its twin.
    """
    unique_K, position_N, count_K = np.unique(index_N, return_inverse=True, return_counts=True)
    if len(unique_K) == len(index_N):
        return index_N, accuracy_N
    return unique_K, np.bincount(position_N, weights=accuracy_N) / count_K


def label_noise(
    features: FactorFeatures, choices_NF: Int64Array, accuracy_N: Float64Array, rng: np.random.Generator
) -> float:
    """Return the standard deviation of the labels' noise, in their units, as marginal likelihood has it.

    Whatever the process cannot express counts as noise: interactions of more than three factors, say.
    """
    tuning = _subset(len(accuracy_N), _NOISE_PAIRS, rng)
    with one_thread():
        parameter_P, _ = tune_strengths(Factors.of(features), choices_NF[tuning], standardised(accuracy_N)[tuning])
    return round(float(Strengths.of(parameter_P).noise.sqrt() * accuracy_N.std()), 6)


def _subset(total: int, wanted: int, rng: np.random.Generator) -> Int64Array:
    return np.sort(rng.permutation(total)[:wanted]) if total > wanted else np.arange(total)


def _posterior(
    parameter_P: Tensor,
    factors: Factors,
    choices_NF: Int64Array,
    target_N: Float64Array,
    kept_K: Int64Array,
    on_step: OnStep | None,
) -> ProcessFit:
    strengths = Strengths.of(parameter_P)
    weight_K, left_out_2K = _conditioned(strengths, factors, choices_NF[kept_K], target_N[kept_K], on_step)
    model = _tables(strengths, factors, choices_NF[kept_K], weight_K)
    left_out = [model.additive.of(choices_NF), model.predict_interactions(choices_NF)]
    for part_N, left_out_K in zip(left_out, left_out_2K, strict=True):
        part_N[kept_K] = left_out_K
    variance_F = strengths.factors_F.numpy().copy()
    return ProcessFit(model, left_out[0], left_out[1], strengths.noise.item(), variance_F, len(kept_K))


def _conditioned(
    strengths: Strengths, factors: Factors, choices_KF: Int64Array, target_K: Float64Array, on_step: OnStep | None
) -> tuple[Float64Array, Float64Array]:
    """float64 [K], the weights of the pairs; and [2, K], both parts for each pair by all others, in closed form."""
    additive_KK, interaction_KK = _covariances(strengths, factors, choices_KF, on_step)
    inverse_KK = _inverse(noisy(additive_KK + interaction_KK, strengths.noise), on_step)
    weight_K = inverse_KK @ torch.as_tensor(target_K)
    left_out = []
    for covariance_KK in (additive_KK, interaction_KK):
        # Without pair i the weights are alpha - K^-1[:, i] alpha_i / K^-1[i, i], whose i-th is zero.
        surplus_K = (covariance_KK * inverse_KK).sum(1) * weight_K / inverse_KK.diagonal()
        left_out.append(covariance_KK @ weight_K - surplus_K)
    return weight_K.numpy(), torch.stack(left_out).numpy()


def _covariances(
    strengths: Strengths, factors: Factors, choices_KF: Int64Array, on_step: OnStep | None
) -> tuple[Tensor, Tensor]:
    """Both covariances of all pairs, some rows at a time: what they are made of would take gigabytes at once."""
    parts = []
    for start in range(0, len(choices_KF), _ROWS_PER_STEP):
        if on_step is not None:
            on_step()
        parts.append(covariances(strengths, factors, choices_KF[start : start + _ROWS_PER_STEP], choices_KF))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _inverse(covariance_KK: Tensor, on_step: OnStep | None) -> Tensor:
    """The inverse of a positive definite matrix, some columns at a time, between which the fit can be cancelled."""
    factor_KK = torch.linalg.cholesky(covariance_KK)
    parts = []
    for columns_KM in torch.split(torch.eye(len(factor_KK), dtype=factor_KK.dtype), _ROWS_PER_STEP, dim=1):
        if on_step is not None:
            on_step()
        parts.append(torch.cholesky_solve(columns_KM, factor_KK))
    return torch.cat(parts, dim=1)


def _tables(strengths: Strengths, factors: Factors, choices_NF: Int64Array, weight_N: Float64Array) -> FactorialModel:
    """The posterior mean: for every combination of factors, the weights summed per choices, times their kernels."""
    units = [kernel.numpy() for kernel in factors.kernels(strengths.decay)]
    variance_F = strengths.factors_F.numpy()
    kernels = [variance * kernel for variance, kernel in zip(variance_F, units, strict=True)]
    tables = [_table((factor,), kernels, choices_NF, weight_N) for factor in range(len(kernels))]
    for group in factors.alike:
        sums = [np.bincount(choices_NF[:, f], weights=weight_N, minlength=len(units[f])) for f in group]
        shared_C = units[group[0]] @ sum(np.sqrt(variance_F[f]) * total for f, total in zip(group, sums, strict=True))
        share = strengths.common.item()
        for factor in group:
            tables[factor] = (1.0 - share) * tables[factor] + share * np.sqrt(variance_F[factor]) * shared_C
    kernels = [variance * kernel for variance, kernel in zip(strengths.interacting_F.numpy(), units, strict=True)]
    interactions = [
        Interaction(combination, strength.item() * _table(combination, kernels, choices_NF, weight_N))
        for degree, strength in ((2, strengths.pairwise), (3, strengths.triple))
        for combination in combinations(range(len(kernels)), degree)
    ]
    return FactorialModel(AdditiveFunction(float(weight_N.sum()), tuple(tables)), tuple(interactions))


def _table(
    factors: tuple[int, ...], kernels: Sequence[Float64Array], choices_NF: Int64Array, weight_N: Float64Array
) -> Float64Array:
    shape = tuple(len(kernels[factor]) for factor in factors)
    cell_N = np.ravel_multi_index(tuple(choices_NF[:, factor] for factor in factors), shape)
    sums = np.bincount(cell_N, weights=weight_N, minlength=int(np.prod(shape)))
    table = np.asarray(sums, dtype=np.float64).reshape(shape)
    for axis, factor in enumerate(factors):
        table = np.moveaxis(np.tensordot(kernels[factor], table, axes=(1, axis)), 0, axis)
    return table
