"""Latencies as answers have them: without the last digits of a sum of binary fractions, 6.88 and not 6.88000000000001.

Shown and asked latencies fit together: what is shown within a limit is within it, also where that limit is a latency
that was shown before, and nothing within a limit is shown beyond it.
"""

import math

_DIGITS = 12


def shown_ms(ms: float, max_ms: float | None = None) -> float:
    """Return milliseconds with twelve significant digits.

    Args:
        ms: In full.
        max_ms: A limit that they meet: the most that is shown.
    """
    rounded = float(f"{ms:.{_DIGITS}g}")
    return rounded if max_ms is None else min(rounded, max_ms)


def full_ms(max_ms: float) -> float:
    """Return what latencies in full are held against for a limit as people give it: half a shown digit more."""
    if max_ms <= 0:
        return max_ms
    digit_ms = 10.0 ** (math.floor(math.log10(max_ms)) + 1 - _DIGITS)
    # a little more than the half, whose own rounding must not count
    return max_ms + 0.51 * digit_ms
