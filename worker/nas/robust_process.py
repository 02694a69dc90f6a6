"""The Gaussian process where some labels are nonsense: those that all others contradict count only as far as believed.

A label is held against what the process says of it without it. Where it lies far beyond the usual error, it is moved as
near as is believable, and the process is fitted again, up to three times (winsorised pseudo-values, Huber 1981), so
that a few broken evaluations cannot bend the effects of the choices that they happen to have. Labels that none
contradicts stay as they are, and so does the fit. Legend: N pairs, F factors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array
from worker.nas.product_kernel import OnStep, standardised
from worker.nas.product_process import ProcessFit, fit_process

BoolArray = NDArray[np.bool_]

_USUAL_SDS = 4.0
"""Of normal errors six in a hundred thousand are farther off."""
_MAX_REFITS = 3
_SETTLED_SDS = 0.05
_LEAST_STEPS = 3
_SAME = 9
"""Decimals: labels that differ beyond them are equal."""
_USUAL_SHARE, _SHARE_TO_SD = 0.9, 1.645
"""Of labels, whose errors are usual: more than a tenth of them cannot all be nonsense."""


@dataclass(frozen=True, eq=False)
class RobustFit:
    """A process fitted to believable labels.

    Attributes:
        process: In standard deviations of ``believed_N`` around its mean.
        believed_N: float64, the labels in their own unit, as the process was given them.
        is_moved_N: bool, which of them are not as they came.
    """

    process: ProcessFit
    believed_N: Float64Array
    is_moved_N: BoolArray

    @property
    def mean(self) -> float:
        """What zero of the process is in the labels' unit."""
        return float(self.believed_N.mean())

    @property
    def scale(self) -> float:
        """What one of the process is in the labels' unit."""
        return max(float(self.believed_N.std()), 1e-12)

    @property
    def noise(self) -> float:
        """Standard deviation of the label noise, in the labels' unit."""
        return float(np.sqrt(self.process.noise_variance) * self.believed_N.std())

    @property
    def explained_by_interactions(self) -> float:
        """Share of left-out labels' variance that interactions explain, beyond the additive part."""
        rest_N = standardised(self.believed_N) - self.process.left_out_additive_N
        return float(np.var(rest_N) - np.var(rest_N - self.process.left_out_interaction_N))


def fit_robust_process(
    features: FactorFeatures,
    choices_NF: Int64Array,
    label_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None = None,
) -> RobustFit:
    """Fit the process to labels of any unit.

    Args:
        features: The Gray bits of the factors' choices.
        choices_NF: int64 [N, F], the pairs' factor choices.
        label_N: float64 [N], finite.
        rng: For :func:`worker.nas.product_process.fit_process`.
        on_step: Called every few milliseconds to a tenth of a second; it may raise to cancel.
    """
    believed_N = np.asarray(label_N, dtype=np.float64)
    for refit in range(_MAX_REFITS + 1):
        process = fit_process(features, choices_NF, standardised(believed_N), rng, on_step)
        fit = RobustFit(process, believed_N, believed_N != label_N)
        moved_N, usual = _believable(fit, label_N)
        if refit == _MAX_REFITS or np.abs(moved_N - believed_N).max() <= _SETTLED_SDS * usual:
            break
        believed_N = moved_N
    return fit


def _believable(fit: RobustFit, label_N: Float64Array) -> tuple[Float64Array, float]:
    """float64 [N], the labels moved to where a left-out prediction would still expect them; and the usual error."""
    left_out_N = fit.mean + fit.scale * (fit.process.left_out_additive_N + fit.process.left_out_interaction_N)
    off_N = label_N - left_out_N
    usual = float(np.quantile(np.abs(off_N), _USUAL_SHARE)) / _SHARE_TO_SD
    # accuracies are counted in images: a few more or fewer are no nonsense, however well all others are predicted
    steps = np.diff(np.unique(label_N.round(_SAME)))
    below = max(_USUAL_SDS * usual, _LEAST_STEPS * float(steps.min()) if len(steps) else 0.0)
    # an evaluation breaks downwards; a network that works where most do not is worth knowing
    above = max(below, float(label_N.std()))
    return np.clip(label_N, left_out_N - below, left_out_N + above), usual
