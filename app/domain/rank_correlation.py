"""Kendall's tau, the paper's measure of how well one ranking agrees with another (figure 1, table 1)."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import kendalltau


def kendall_tau(first_N: npt.ArrayLike, second_N: npt.ArrayLike) -> float | None:
    """Return Kendall's tau-b of two lists of the same length, in [-1, 1].

    Returns:
        None where it is undefined: fewer than two values, or one side all equal.

    Raises:
        ValueError: If the lengths differ or a value is not finite.
    """
    first, second = np.asarray(first_N, dtype=np.float64), np.asarray(second_N, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two lists of the same length are needed, not of shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a rank correlation needs finite values")
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(kendalltau(first, second).statistic)


_RESAMPLES = 1000
_FEWEST = 5
"""With four values even their full agreement is not unlikely by chance (1 in 24)."""
_VARIANCE = 0.437


def kendall_interval(first_N: npt.ArrayLike, second_N: npt.ArrayLike, level: float = 0.9) -> tuple[float, float] | None:
    """Return a confidence interval of Kendall's tau-b: the wider of two, on each side.

    Few values that agree agree in every resample, so the bootstrap's percentiles alone would say that there is no
    doubt; the other is that of Fieller, Hartley and Pearson (1957), normal in atanh(tau) with variance 0.437 / (n - 4).
    The resamples are always the same, so that the same values give the same interval, in whatever order they come.

    Returns:
        None with fewer than five values, or one side all equal.

    Raises:
        ValueError: If the lengths differ or a value is not finite.
    """
    if (tau := kendall_tau(first_N, second_N)) is None:
        return None
    first, second = np.asarray(first_N, dtype=np.float64), np.asarray(second_N, dtype=np.float64)
    if first.size < _FEWEST:
        return None
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    first_NN, second_NN = (np.sign(values[:, None] - values[None, :]) for values in (first, second))
    counts_BN = np.random.default_rng(0).multinomial(first.size, np.full(first.size, 1 / first.size), _RESAMPLES)
    # of every two values that a resample holds: 1 or -1 if both orders agree or not, and how often each is an order
    agreed_B, first_B, second_B = (
        ((counts_BN @ pairs_NN) * counts_BN).sum(1) for pairs_NN in (first_NN * second_NN, first_NN**2, second_NN**2)
    )
    defined_B = (first_B > 0) & (second_B > 0)
    tau_B = agreed_B[defined_B] / np.sqrt(first_B[defined_B] * second_B[defined_B])
    lower, upper = np.quantile(tau_B, [(1 - level) / 2, (1 + level) / 2])
    by_normal = _fieller(tau, first.size, level)
    return min(float(lower), by_normal[0]), max(float(upper), by_normal[1])


def _fieller(tau: float, num: int, level: float) -> tuple[float, float]:
    """Full agreement of n values counts as half a pair short of it: atanh(1) is infinite."""
    nearly = float(np.clip(tau, -1 + 2 / (num * (num - 1)), 1 - 2 / (num * (num - 1))))
    reach = float(ndtri((1 + level) / 2)) * (_VARIANCE / (num - 4)) ** 0.5
    lower, upper = np.tanh(np.arctanh(nearly) - reach), np.tanh(np.arctanh(nearly) + reach)
    return min(float(lower), tau), max(float(upper), tau)
