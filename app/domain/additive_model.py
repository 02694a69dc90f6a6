"""Accuracy as a constant plus one table per factor: the additive baseline, also on spaces too large to be listed.

A chain-styled space is a product of factors, and most of what tells its architectures apart is what each factor's
choice adds by itself. Nothing here lists nodes, so 6^19 architectures cost no more than 6^7.
Legend: N pairs, F factors, C choices over all factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.hamming_graph import Float64Array, Int64Array, factor_offsets
from app.domain.monotone_link import MonotoneLink, normal_scores


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """A score per architecture: ``constant + sum_f tables[f][choice of f]``.

    Attributes:
        constant: The score of the average architecture; every table has mean zero over its factor's choices.
        tables: One float64 [n_f] per factor.
    """

    constant: float
    tables: tuple[Float64Array, ...]

    @classmethod
    def centred(cls, constant: float, tables: Sequence[Float64Array]) -> "AdditiveModel":
        """Return the same scores with the means of the tables moved to the constant."""
        return cls(
            float(constant + sum(table.mean() for table in tables)), tuple(table - table.mean() for table in tables)
        )

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of choices of each factor."""
        return tuple(len(table) for table in self.tables)

    def predict(self, choices_NF: Int64Array) -> Float64Array:
        """Return float64 [N], the scores of the architectures with these factor choices."""
        score_N = np.full(len(choices_NF), self.constant)
        for factor, table in enumerate(self.tables):
            score_N += table[choices_NF[:, factor]]
        return score_N


@dataclass(frozen=True, eq=False)
class AdditiveFit:
    """A fitted additive model.

    Attributes:
        model: The model, fitted on all pairs.
        left_out_N: float64, for each pair the score that the model fitted on all other pairs gives it.
    """

    model: AdditiveModel
    left_out_N: Float64Array


@dataclass(frozen=True, eq=False)
class AdditivePredictor:
    """An additive score with a monotone link to accuracy: what looks like interaction near saturation is the link.

    Attributes:
        model: Scores of rank-normalised labels.
        link: From score to accuracy.
        left_out_N: float64, the left-out scores of the fitted pairs.
    """

    model: AdditiveModel
    link: MonotoneLink
    left_out_N: Float64Array

    def predict(self, choices_NF: Int64Array) -> Float64Array:
        """Return float64 [N], the predicted accuracies of the architectures with these factor choices."""
        return self.link(self.model.predict(choices_NF))


def fit_additive(
    factor_sizes: Sequence[int], choices_NF: Int64Array, target_N: Float64Array, penalty: float = 1.0
) -> AdditiveFit:
    """Fit an additive model by ridge regression on one-hot choices; the constant is not penalised.

    Args:
        factor_sizes: Number of choices of each factor.
        choices_NF: int64 [N, F], the pairs' factor choices.
        target_N: float64 [N], what to fit.
        penalty: Of the squared table entries; 1 is worth one pair that says "no effect" per entry.

    Raises:
        ValueError: If no pair is given, lengths differ, a target is not finite, or the penalty is not positive.
    """
    target_N = np.asarray(target_N, dtype=np.float64)
    _check(factor_sizes, choices_NF, target_N, penalty)
    spans = factor_offsets(tuple(factor_sizes))
    one_hot_NC = np.zeros((len(target_N), spans[-1][1]))
    np.put_along_axis(one_hot_NC, choices_NF + np.array([first for first, _ in spans]), 1.0, axis=1)
    mean_C = one_hot_NC.mean(0)
    centred_NC = one_hot_NC - mean_C
    inverse_CC = np.linalg.inv(centred_NC.T @ centred_NC + penalty * np.eye(len(mean_C)))
    residual_N = target_N - target_N.mean()
    effect_C = inverse_CC @ (centred_NC.T @ residual_N)
    residual_N = residual_N - centred_NC @ effect_C
    # The closed form of fitting without each pair in turn; the constant costs every pair 1/N of its own weight.
    leverage_N = 1.0 / len(target_N) + ((centred_NC @ inverse_CC) * centred_NC).sum(1)
    left_out_N = target_N - residual_N / np.maximum(1.0 - leverage_N, 1e-9)
    if len(target_N) == 1:
        left_out_N = target_N.copy()
    constant = float(target_N.mean() - mean_C @ effect_C)
    return AdditiveFit(AdditiveModel.centred(constant, [effect_C[a:b] for a, b in spans]), left_out_N)


def fit_additive_predictor(
    factor_sizes: Sequence[int], choices_NF: Int64Array, accuracy_N: Float64Array, penalty: float = 1.0
) -> AdditivePredictor:
    """Fit an additive score to the ranks of the accuracies, and a monotone link from left-out scores to accuracy.

    Args:
        factor_sizes: Number of choices of each factor.
        choices_NF: int64 [N, F], the pairs' factor choices.
        accuracy_N: float64 [N], in [0, 1].
        penalty: As in :func:`fit_additive`.

    Raises:
        ValueError: As :func:`fit_additive`.
    """
    accuracy_N = np.asarray(accuracy_N, dtype=np.float64)
    _check(factor_sizes, choices_NF, accuracy_N, penalty)
    fit = fit_additive(factor_sizes, choices_NF, normal_scores(accuracy_N), penalty)
    return AdditivePredictor(fit.model, MonotoneLink.fit(fit.left_out_N, accuracy_N), fit.left_out_N)


def _check(factor_sizes: Sequence[int], choices_NF: Int64Array, target_N: Float64Array, penalty: float) -> None:
    if target_N.ndim != 1 or not len(target_N) or choices_NF.shape != (len(target_N), len(factor_sizes)):
        raise ValueError(
            f"choices of shape {choices_NF.shape} and targets of shape {target_N.shape}; "
            f"give [N, {len(factor_sizes)}] choices and [N] targets, at least one"
        )
    if not np.isfinite(target_N).all():
        raise ValueError("an additive model needs finite targets; leave the failed pairs out")
    if not 0 < penalty < float("inf"):
        raise ValueError(f"penalty must be positive and finite, got {penalty}")
