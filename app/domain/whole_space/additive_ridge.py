"""Ridge regression of accuracy on one-hot choices: the additive baseline, also on spaces too large to be listed.

A chain-styled space is a product of cells, and most of what tells its architectures apart is what each cell's choice
adds by itself.
Legend: N pairs, L cells, C choices over all cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.hamming_graph import Int64Array, factor_offsets
from app.domain.whole_space.additive_function import AdditiveFunction, Float64Array


@dataclass(frozen=True, eq=False)
class AdditiveFit:
    """A fitted additive predictor.

    Attributes:
        function: Predicted accuracy, fitted on all pairs.
        left_out_N: float64, for each pair what the function fitted on all other pairs predicts.
    """

    function: AdditiveFunction
    left_out_N: Float64Array


def fit_additive(
    factor_sizes: Sequence[int], choices_NL: Int64Array, accuracy_N: Float64Array, penalty: float = 1.0
) -> AdditiveFit:
    """Fit an additive function by ridge regression on one-hot choices; the constant is not penalised.

    Args:
        factor_sizes: Number of choices of each cell.
        choices_NL: int64 [N, L], the pairs' choices.
        accuracy_N: float64 [N], their accuracies.
        penalty: Of the squared table entries; 1 is worth one pair that says "no effect" per entry.

    Raises:
        ValueError: If there are fewer than two pairs, lengths differ, an accuracy is not finite, or the penalty is not
            positive.
    """
    accuracy_N = np.asarray(accuracy_N, dtype=np.float64)
    _check(factor_sizes, choices_NL, accuracy_N, penalty)
    spans = factor_offsets(tuple(factor_sizes))
    one_hot_NC = np.zeros((len(accuracy_N), spans[-1][1]))
    np.put_along_axis(one_hot_NC, choices_NL + np.array([first for first, _ in spans]), 1.0, axis=1)
    mean_C = one_hot_NC.mean(0)
    centred_NC = one_hot_NC - mean_C
    inverse_CC = np.linalg.inv(centred_NC.T @ centred_NC + penalty * np.eye(len(mean_C)))
    residual_N = accuracy_N - accuracy_N.mean()
    effect_C = inverse_CC @ (centred_NC.T @ residual_N)
    residual_N = residual_N - centred_NC @ effect_C
    # The closed form of fitting without each pair in turn; the constant costs every pair 1/N of its own weight.
    leverage_N = 1.0 / len(accuracy_N) + ((centred_NC @ inverse_CC) * centred_NC).sum(1)
    left_out_N = accuracy_N - residual_N / (1.0 - leverage_N)
    constant = float(accuracy_N.mean() - mean_C @ effect_C)
    return AdditiveFit(AdditiveFunction(constant, tuple(effect_C[a:b] for a, b in spans)), left_out_N)


def _check(factor_sizes: Sequence[int], choices_NL: Int64Array, accuracy_N: Float64Array, penalty: float) -> None:
    if accuracy_N.ndim != 1 or len(accuracy_N) < 2 or choices_NL.shape != (len(accuracy_N), len(factor_sizes)):
        raise ValueError(
            f"choices of shape {choices_NL.shape} and accuracies of shape {accuracy_N.shape}; "
            f"give [N, {len(factor_sizes)}] choices and [N] accuracies, at least two"
        )
    if not np.isfinite(accuracy_N).all():
        raise ValueError("an additive fit needs finite accuracies; leave the failed pairs out")
    if not 0 < penalty < float("inf"):
        raise ValueError(f"penalty must be positive and finite, got {penalty}")
