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
