"""How good a round's predictor is: against the held-out pairs, beside the additive baseline, with its interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.domain.hamming_graph import Float64Array, Int64Array
from app.domain.prediction_interval import calibrate_interval
from app.domain.rank_correlation import kendall_tau
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_ridge import fit_additive
from worker.pipeline.ports import Fit, Pair

LEFT_OUT = "left_out"
"""Of the figures: predictions of fitted architectures without their pairs, by index in S_t, where these are few."""


def judge(
    subspace: Subspace, fit: Fit, fitted: Sequence[Pair], held_out: Sequence[Pair]
) -> tuple[float | None, dict[str, Any]]:
    """Return Kendall's tau of f against z on the held-out pairs, and figures of the fit with what intervals need.

    A predictor that brings an interval is judged by the held-out pairs that it covers; for one that does not they
    calibrate one (split conformal), and nothing is left to judge that by.

    Args:
        subspace: S_t.
        fit: What the predictor gave.
        fitted: The pairs that it saw.
        held_out: Those that it did not.
    """
    index_N, accuracy_N = _arrays(subspace, held_out)
    predicted_N = fit.predicted_accuracy[index_N].astype(np.float64)
    interval, coverage, left_out = fit.interval, None, {}
    of_held_out = calibrate_interval(predicted_N, accuracy_N)
    if interval is None:
        interval = of_held_out
    else:
        if of_held_out is None:
            # true labels will change the predictions, and the held-out pairs alone could not say what that is worth
            left_out = {str(index): round(value, 6) for index, value in fit.left_out.items()}
        lower_N, upper_N = interval.bounds(predicted_N)
        coverage = float(((accuracy_N >= lower_N) & (accuracy_N <= upper_N)).mean())
    figures = {
        **fit.report,
        "num_fitted": len(fitted),
        "num_held_out": len(held_out),
        "additive_tau": _additive_tau(subspace, fitted, index_N, accuracy_N),
        "interval": interval and interval.to_dict(),
        "held_out_coverage": coverage,
        **({LEFT_OUT: left_out} if left_out else {}),
    }
    return kendall_tau(predicted_N, accuracy_N), figures


def _additive_tau(
    subspace: Subspace, fitted: Sequence[Pair], held_out_N: Int64Array, accuracy_N: Float64Array
) -> float | None:
    """Tau of the baseline, ridge regression on one-hot choices, on the same pairs."""
    sizes = subspace.factor_sizes
    index_M, accuracy_M = _arrays(subspace, fitted)
    additive = fit_additive(sizes, np.stack(np.unravel_index(index_M, sizes), axis=1), accuracy_M).function
    return kendall_tau(additive.of(np.stack(np.unravel_index(held_out_N, sizes), axis=1)), accuracy_N)


def _arrays(subspace: Subspace, pairs: Sequence[Pair]) -> tuple[Int64Array, Float64Array]:
    """int64 [N], the pairs' nodes, and float64 [N], their accuracies."""
    index = [subspace.index(subspace.space.parse_code(pair.code)) for pair in pairs]
    return np.array(index, dtype=np.int64), np.array([pair.accuracy for pair in pairs])
