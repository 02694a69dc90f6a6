"""Whether accuracies saturate, and where: the ceiling under which a process explains the pairs best.

A warped Gaussian process (Snelson et al. 2003) with one parameter: the marginal likelihood of the efforts, times the
Jacobian of the map from accuracies, is that of the accuracies. Legend: N pairs, F factors.
"""

import numpy as np

from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array
from app.domain.saturation import NOT_SATURATED, Saturation
from worker.nas.product_kernel import Factors, OnStep, one_thread, standardised, tune_strengths

_CEILINGS = (1.0, 0.3, 0.1, 0.03)
"""Above the best accuracy, in units of the accuracies' range."""
_MAX_PAIRS = 256
_FURTHER_STEPS = 15
_LEAST_GAIN = 3.0
"""Of log evidence: a ceiling that the pairs do not ask for costs rank correlation where labels are noisy."""


def choose_saturation(
    features: FactorFeatures,
    choices_NF: Int64Array,
    accuracy_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None = None,
) -> Saturation:
    """Return the saturation that the pairs ask for, none where they are as well explained without.

    Args:
        features: The Gray bits of the factors' choices.
        choices_NF: int64 [N, F], the pairs' factor choices.
        accuracy_N: float64 [N].
        rng: Chooses the pairs that are looked at where there are too many.
        on_step: Called every few milliseconds; it may raise to cancel.
    """
    kept_K = np.sort(rng.permutation(len(accuracy_N))[:_MAX_PAIRS])
    factors, choices_KF, accuracy_K = Factors.of(features), choices_NF[kept_K], accuracy_N[kept_K]
    if np.ptp(accuracy_K) <= 0:
        return NOT_SATURATED
    with one_thread():
        start_P, plain = tune_strengths(factors, choices_KF, standardised(accuracy_K), on_step=on_step)
        best, chosen = plain - len(kept_K) * np.log(accuracy_K.std()) + _LEAST_GAIN, NOT_SATURATED
        before = -np.inf
        for above in _CEILINGS:
            room = float(above * np.ptp(accuracy_N))
            saturation = Saturation(float(accuracy_N.max()) + room, room / 2)
            effort_K = saturation.effort(accuracy_K)
            _, evidence = tune_strengths(factors, choices_KF, standardised(effort_K), start_P, _FURTHER_STEPS, on_step)
            # d effort / d accuracy = exp(effort)
            evidence += effort_K.sum() - len(kept_K) * np.log(effort_K.std())
            if evidence > best:
                best, chosen = evidence, saturation
            if evidence < before:
                break
            before = evidence
    return chosen
