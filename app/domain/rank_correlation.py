"""Kendall's tau, the paper's measure of how well one ranking agrees with another (figure 1, table 1)."""

import numpy as np
import numpy.typing as npt
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


def kendall_interval(first_N: npt.ArrayLike, second_N: npt.ArrayLike, level: float = 0.9) -> tuple[float, float] | None:
    """Return a confidence interval of Kendall's tau-b: the bootstrap's percentiles over the values.

    The resamples are always the same, so that the same values give the same interval.

    Returns:
        None where the tau is undefined: fewer than three values, or one side all equal.

    Raises:
        ValueError: If the lengths differ or a value is not finite.
    """
    if kendall_tau(first_N, second_N) is None:
        return None
    first, second = np.asarray(first_N, dtype=np.float64), np.asarray(second_N, dtype=np.float64)
    if first.size < 3:
        return None
    first_NN, second_NN = (np.sign(values[:, None] - values[None, :]) for values in (first, second))
    counts_BN = np.random.default_rng(0).multinomial(first.size, np.full(first.size, 1 / first.size), _RESAMPLES)
    # of every two values that a resample holds: 1 or -1 if both orders agree or not, and how often each is an order
    agreed_B, first_B, second_B = (
        ((counts_BN @ pairs_NN) * counts_BN).sum(1) for pairs_NN in (first_NN * second_NN, first_NN**2, second_NN**2)
    )
    defined_B = (first_B > 0) & (second_B > 0)
    tau_B = agreed_B[defined_B] / np.sqrt(first_B[defined_B] * second_B[defined_B])
    lower, upper = np.quantile(tau_B, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
