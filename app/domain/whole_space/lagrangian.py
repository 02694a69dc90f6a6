"""Lagrangian multipliers of several limits at once: which weighted sum of them bounds a score best.

The dual of "the highest additive score under upper limits" is convex in the multipliers and piecewise linear; here it
is smoothed (log-sum-exp in the place of max, at a falling temperature) and minimised by projected Newton steps.
Legend: C limited costs, L cells, n choices of the cell that has most.
"""

from dataclasses import dataclass

import numpy as np

from app.domain.whole_space.additive_function import Float64Array

_TEMPERATURES = (0.2, 0.05, 0.0125)
_STEPS = 6
_HALVINGS = 4
_LARGEST = 1e6


@dataclass(frozen=True)
class _Dual:
    """The smoothed dual: multipliers . slack + T sum_l log sum_n exp((score - multipliers . cost) / T)."""

    score_Ln: Float64Array
    cost_CLn: Float64Array
    slack_C: Float64Array

    def value(self, multiplier_C: Float64Array, temperature: float) -> float:
        return self._value(multiplier_C, self._reduced(multiplier_C) / temperature, temperature)[0]

    def _reduced(self, multiplier_C: Float64Array) -> Float64Array:
        return self.score_Ln - np.tensordot(multiplier_C, self.cost_CLn, 1)

    def _value(
        self, multiplier_C: Float64Array, scaled_Ln: Float64Array, temperature: float
    ) -> tuple[float, Float64Array]:
        top_L1 = scaled_Ln.max(1, keepdims=True)
        mass_Ln = np.exp(scaled_Ln - top_L1)
        total_L1 = mass_Ln.sum(1, keepdims=True)
        value = float(multiplier_C @ self.slack_C + temperature * (top_L1 + np.log(total_L1)).sum())
        return value, mass_Ln / total_L1

    def derivatives(self, multiplier_C: Float64Array, temperature: float) -> tuple[float, Float64Array, Float64Array]:
        """Return value, gradient [C] and Hessian [C, C]."""
        value, share_Ln = self._value(multiplier_C, self._reduced(multiplier_C) / temperature, temperature)
        mean_CL = (self.cost_CLn * share_Ln).sum(2)
        centred_CLn = self.cost_CLn - mean_CL[:, :, None]
        flat = (centred_CLn * np.sqrt(share_Ln)).reshape(len(centred_CLn), -1)
        return value, self.slack_C - mean_CL.sum(1), flat @ flat.T / temperature


def multipliers(score_Ln: Float64Array, cost_CLn: Float64Array, slack_C: Float64Array) -> Float64Array:
    """Return float64 [C] >= 0, nearly the multipliers that minimise the dual; any others would give a valid bound too.

    Args:
        score_Ln: Scores of every choice; -inf where a cell has no such choice.
        cost_CLn: Costs of every choice above the cell's smallest.
        slack_C: The limits above the smallest cost of the space.
    """
    finite = np.where(np.isfinite(score_Ln), score_Ln, np.nan)
    spread = float(np.nansum(np.nanmax(finite, 1) - np.nanmin(finite, 1))) or 1.0
    unit_C = cost_CLn.max(2).sum(1)
    unit_C[unit_C == 0] = 1.0
    dual = _Dual(score_Ln / spread, cost_CLn / unit_C[:, None, None], slack_C / unit_C)
    if not len(slack_C):
        return slack_C
    multiplier_C = np.full(len(slack_C), 1.0 / len(slack_C))
    for temperature in _TEMPERATURES:
        for _ in range(_STEPS):
            moved_C = _newton_step(dual, multiplier_C, temperature / score_Ln.shape[0])
            settled = bool(np.allclose(moved_C, multiplier_C, rtol=1e-3, atol=1e-6))
            multiplier_C = moved_C
            if settled:
                break
    return np.asarray(multiplier_C * spread / unit_C)


def _newton_step(dual: _Dual, multiplier_C: Float64Array, temperature: float) -> Float64Array:
    """One Newton step over the multipliers that are not held at zero, shortened until the dual falls."""
    value, gradient_C, hessian_CC = dual.derivatives(multiplier_C, temperature)
    free_C = (multiplier_C > 0) | (gradient_C < 0)
    step_C = np.zeros_like(multiplier_C)
    damped = hessian_CC[np.ix_(free_C, free_C)] + 1e-9 * np.eye(int(free_C.sum()))
    step_C[free_C] = np.linalg.solve(damped, -gradient_C[free_C])
    for halving in range(_HALVINGS):
        moved_C = (multiplier_C + step_C * 0.5 ** (2 * halving)).clip(0, _LARGEST)
        if dual.value(moved_C, temperature) < value:
            return moved_C
    return multiplier_C
