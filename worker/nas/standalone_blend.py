"""Predictions of two fidelities: a few stand-alone accuracies z* decide how predictors of the supernet's z are blended.

A supernet's error is systematic: held-out z confirms its artefacts as readily as what is real, so it cannot say which
predictor ranks the truth best. Networks trained by themselves can, but they are few. So the model is small and doubts
them: the rank of an architecture's z* is, in every round of its own, a line over

    the safest prediction + weights * (other predictions - safest) + one effect per choice of a cell

with normal priors around "the safest prediction alone is right". How far weights and effects may move, and how noisy
the labels are, is not chosen but averaged over, by how well each of a few settings explains the labels (their
evidence); one setting, with a tenth of the prior, is that nothing moves. Without labels the safest prediction is left.

Networks that were fine-tuned from the supernet keep some of its errors: choices that learn slowly, or want larger
images, are too low in both. Labels alone cannot tell such an effect of a choice from a true one, so only a part of
what they say about choices is believed (``effect_share``).

Only the order of the z* of a round counts: the k-th best label stands for the k-th highest of what the safest predictor
says of that round's labels. So one broken network decides nothing, and the corrected prediction stays on the scale of
the base predictions. Those should have one scale, e.g. :class:`worker.nas.rank_scale.RankScale`.
Legend: N labels or architectures, K base predictions (the safest first), C choices over all cells, R rounds, P
parameters.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import rankdata

from app.domain.hamming_graph import Float64Array, Int64Array, factor_offsets

MIN_LABELS = 4
"""Fewer say nothing about a ranking: a line through them fits anything."""

_WEIGHT_SDS = (0.15, 0.4)
_EFFECT_SDS = (0.0, 0.08, 0.2)
_NOISE_SDS = (0.15, 0.3, 0.5, 0.8, 1.5, 3.0)
"""Standard deviations of weights, effects and label noise; the last two in units of the spread of the labels.

The largest noise is far beyond that spread: labels may say nothing at all.
"""

FINE_TUNED_SHARE = 0.5
"""Of the variance of the choices' effects in fine-tuned networks, what is true; the rest is the supernet's errors
(docs/reproduction.md)."""

_NOTHING_MOVES = 0.1
_LEVEL_SD = 10.0
_SLOPE_SD = 0.5
_MIN_SLOPE = 0.7
"""Of z* over the safest prediction, in units of their spreads. Effects are divided by it: labels that hardly follow any
prediction must not make them several times larger."""
_MAX_WEIGHT = 0.9
_MIN_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class Labels:
    """Architectures that were trained by themselves.

    Attributes:
        choices_NL: int64, their choices in every cell of the whole space.
        base_NK: float64, what each predictor of its round says of them, the safest first.
        round_N: int64, the round whose predictors these are.
        accuracy_N: float64, z*.

    Raises:
        ValueError: If lengths differ or a value is not finite.
    """

    choices_NL: Int64Array
    base_NK: Float64Array
    round_N: Int64Array
    accuracy_N: Float64Array

    def __post_init__(self) -> None:
        lengths = {len(self.choices_NL), len(self.base_NK), len(self.round_N), len(self.accuracy_N)}
        if len(lengths) > 1 or self.base_NK.ndim != 2:
            raise ValueError(
                f"labels need one row of everything, got shapes {self.choices_NL.shape}, {self.base_NK.shape}, "
                f"{self.round_N.shape} and {self.accuracy_N.shape}"
            )
        if not (np.isfinite(self.base_NK).all() and np.isfinite(self.accuracy_N).all()):
            raise ValueError("labels need finite accuracies and predictions; leave failed trainings out")

    def __len__(self) -> int:
        return len(self.accuracy_N)


@dataclass(frozen=True, eq=False)
class StandaloneBlend:
    """How predictions are corrected.

    Attributes:
        weights_K: float64, of each base prediction; they add up to one, and none is negative.
        effects: One float64 [n_l] per cell, what each choice adds to a prediction.
        left_out_N: float64, for each label what would be predicted without it.
        observed_N: float64, the label itself on the scale of the predictions.
        unchanged_probability: That nothing but the safest prediction is needed, given the labels.
    """

    weights_K: Float64Array
    effects: tuple[Float64Array, ...]
    left_out_N: Float64Array
    observed_N: Float64Array
    unchanged_probability: float

    def corrected(self, base_NK: Float64Array, choices_NL: Int64Array) -> Float64Array:
        """Return float64 [N], the corrected predictions of architectures of one round."""
        corrected_N = base_NK @ self.weights_K
        for cell_index, effects in enumerate(self.effects):
            corrected_N = corrected_N + effects[choices_NL[:, cell_index]]
        return np.asarray(corrected_N)

    @property
    def error(self) -> float:
        """Root mean square of what labels differ from their left-out predictions; nan without labels."""
        squared_N = (self.observed_N - self.left_out_N) ** 2
        return float(np.sqrt(squared_N.mean())) if len(squared_N) else float("nan")

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        """Return its figures as JSON data, with the names of the base predictions."""
        return {
            "weights": {name: round(float(w), 4) for name, w in zip(names, self.weights_K, strict=True)},
            "largest_effect": round(max((float(np.abs(e).max()) for e in self.effects), default=0.0), 6),
            "unchanged_probability": round(self.unchanged_probability, 4),
            "error": round(self.error, 6),
        }


def fit_standalone_blend(labels: Labels, num_choices: Sequence[int], *, effect_share: float = 1.0) -> StandaloneBlend:
    """Fit the blend to all labels of a search.

    Args:
        labels: Of all rounds so far.
        num_choices: Of every cell of the whole space.
        effect_share: Of the variance of the choices' effects in these labels, what is the truth's, from 0 to 1.
    """
    observed_N = _observed(labels)
    scale = _spread(observed_N, labels.round_N)
    if len(labels) < MIN_LABELS or scale < _MIN_SPREAD:
        return _unchanged(labels, observed_N, num_choices)
    design = _Design(labels, observed_N / scale, tuple(num_choices), scale, effect_share)
    fits = [_fit(design, *setting) for setting in design.settings]
    log_evidence = np.array([fit.log_evidence + fit.log_prior for fit in fits])
    share_M = _shares(log_evidence)
    parameters_P = sum(share * fit.mean_P for share, fit in zip(share_M, fits, strict=True))
    # p(y) = p(y without i) p(y_i | the others), so each label's own evidence can be taken back from the shares
    own_MN = np.array([fit.log_own_N for fit in fits])
    share_MN = _shares(log_evidence[:, None] - own_MN)
    left_out_N = (share_MN * np.array([fit.left_out_N for fit in fits])).sum(0)
    slope = max(float(parameters_P[design.slope_at]), _MIN_SLOPE)
    effects_C = parameters_P[design.effects_at] / slope * scale
    blend = StandaloneBlend(
        _weights(parameters_P[design.weights_at] / slope),
        tuple(effects_C[first:last] for first, last in factor_offsets(tuple(num_choices))),
        left_out_N * scale,
        observed_N,
        float(share_M[: len(_NOISE_SDS)].sum()),
    )
    return _as_predicted(blend, labels, slope)


def _as_predicted(blend: StandaloneBlend, labels: Labels, slope: float) -> StandaloneBlend:
    """Take the round's level and the slope out of labels and left-out predictions."""
    corrected_N = blend.corrected(labels.base_NK, labels.choices_NL)
    level_N = np.zeros(len(labels))
    for round_index in np.unique(labels.round_N):
        inside_N = labels.round_N == round_index
        level_N[inside_N] = (blend.observed_N - slope * corrected_N)[inside_N].mean()
    return dataclasses.replace(
        blend, left_out_N=(blend.left_out_N - level_N) / slope, observed_N=(blend.observed_N - level_N) / slope
    )


@dataclass(frozen=True, eq=False)
class _Design:
    """The linear model in units in which labels and the safest prediction have a spread of one."""

    labels: Labels
    target_N: Float64Array
    num_choices: tuple[int, ...]
    scale: float
    effect_share: float

    @cached_property
    def rounds_R(self) -> Int64Array:
        return np.unique(self.labels.round_N)

    @property
    def slope_at(self) -> int:
        return len(self.rounds_R)

    @property
    def weights_at(self) -> slice:
        return slice(self.slope_at + 1, self.slope_at + self.labels.base_NK.shape[1])

    @property
    def effects_at(self) -> slice:
        return slice(self.weights_at.stop, self.weights_at.stop + sum(self.num_choices))

    @cached_property
    def matrix_NP(self) -> Float64Array:
        """A level per round, the safest prediction, the others' differences from it, one-hot choices."""
        base_NK = self.labels.base_NK / self.scale
        level_NR = (self.labels.round_N[:, None] == self.rounds_R).astype(np.float64)
        # the level is the round's own, so predictions count from their round's mean
        base_NK = base_NK - level_NR @ (level_NR.T @ base_NK / level_NR.sum(0)[:, None])
        one_hot_NC = np.zeros((len(self.labels), sum(self.num_choices)))
        first_L = np.array([first for first, _ in factor_offsets(self.num_choices)])
        np.put_along_axis(one_hot_NC, self.labels.choices_NL + first_L, 1.0, axis=1)
        return np.concatenate([level_NR, base_NK[:, :1], base_NK[:, 1:] - base_NK[:, :1], one_hot_NC], axis=1)

    @cached_property
    def settings(self) -> list[tuple[float, float, float, float]]:
        """(weights' sd, effects' sd, noise sd, log prior) of every model that is averaged over, none moving first."""
        still = [(0.0, 0.0, noise, np.log(_NOTHING_MOVES / len(_NOISE_SDS))) for noise in _NOISE_SDS]
        moving = list(itertools.product(_WEIGHT_SDS, _EFFECT_SDS, _NOISE_SDS))
        share = np.log((1.0 - _NOTHING_MOVES) / len(moving))
        return still + [(*sds, share) for sds in moving]

    def prior(self, weight_sd: float, effect_sd: float) -> tuple[Float64Array, Float64Array]:
        """float64 [P] twice, mean and variance of the parameters."""
        mean_P = np.zeros(self.matrix_NP.shape[1])
        mean_P[: self.slope_at] = self.target_N.mean()
        mean_P[self.slope_at] = 1.0
        variance_P = np.full(len(mean_P), effect_sd**2)
        variance_P[: self.slope_at] = _LEVEL_SD**2
        variance_P[self.slope_at] = _SLOPE_SD**2
        variance_P[self.weights_at] = weight_sd**2
        return mean_P, variance_P

    @cached_property
    def true_share_P(self) -> Float64Array:
        """float64 [P], of each parameter's variance what is the truth's and not only the labels'."""
        share_P = np.ones(self.matrix_NP.shape[1])
        share_P[self.effects_at] = self.effect_share
        return share_P


@dataclass(frozen=True, eq=False)
class _Fit:
    """The posterior of what is true under one setting, each label's prediction by the others, and its log density."""

    mean_P: Float64Array
    log_evidence: float
    log_prior: float
    left_out_N: Float64Array
    log_own_N: Float64Array


def _fit(design: _Design, weight_sd: float, effect_sd: float, noise_sd: float, log_prior: float) -> _Fit:
    mean_P, variance_P = design.prior(weight_sd, effect_sd)
    matrix_NP = design.matrix_NP
    spread_PN = variance_P[:, None] * matrix_NP.T
    covariance_NN = matrix_NP @ spread_PN + noise_sd**2 * np.eye(len(matrix_NP))
    true_PN = design.true_share_P[:, None] * spread_PN
    true_NN = matrix_NP @ true_PN
    inverse_NN = np.linalg.inv(covariance_NN)
    prior_N = matrix_NP @ mean_P
    residual_N = design.target_N - prior_N
    pull_N = inverse_NN @ residual_N
    _, log_determinant = np.linalg.slogdet(covariance_NN)
    constant = np.log(2.0 * np.pi)
    own_variance_N = 1.0 / np.diag(inverse_NN)
    own_residual_N = pull_N * own_variance_N
    return _Fit(
        mean_P + true_PN @ pull_N,
        float(-0.5 * (residual_N @ pull_N + log_determinant + len(residual_N) * constant)),
        log_prior,
        prior_N + true_NN @ pull_N - own_residual_N * (true_NN * inverse_NN).sum(1),
        -0.5 * (own_residual_N**2 / own_variance_N + np.log(own_variance_N) + constant),
    )


def _shares(log_M: Float64Array) -> Float64Array:
    share_M = np.exp(log_M - log_M.max(0))
    return np.asarray(share_M / share_M.sum(0))


def _weights(other_K: Float64Array) -> Float64Array:
    """The weights of all predictions: none negative, and the safest keeps a tenth."""
    other_K = np.clip(other_K, 0.0, None)
    other_K = other_K * min(1.0, _MAX_WEIGHT / max(other_K.sum(), 1e-12))
    return np.concatenate([[1.0 - other_K.sum()], other_K])


def _observed(labels: Labels) -> Float64Array:
    """float64 [N], each round's labels by their ranks as what the safest predictor says of these architectures."""
    observed_N = np.empty(len(labels))
    for round_index in np.unique(labels.round_N):
        inside = np.flatnonzero(labels.round_N == round_index)
        rank_N = rankdata(labels.accuracy_N[inside]) - 1.0
        observed_N[inside] = np.interp(rank_N, np.arange(len(inside)), np.sort(labels.base_NK[inside, 0]))
    return observed_N


def _spread(observed_N: Float64Array, round_N: Int64Array) -> float:
    """Standard deviation within rounds; 0 without labels."""
    if not len(observed_N):
        return 0.0
    centred = [observed_N[round_N == r] - observed_N[round_N == r].mean() for r in np.unique(round_N)]
    return float(np.concatenate(centred).std())


def _unchanged(labels: Labels, observed_N: Float64Array, num_choices: Sequence[int]) -> StandaloneBlend:
    """The safest prediction alone."""
    weights_K, effects = np.eye(labels.base_NK.shape[1])[0], tuple(np.zeros(n) for n in num_choices)
    return StandaloneBlend(weights_K, effects, labels.base_NK[:, 0].copy(), observed_N, 1.0)
