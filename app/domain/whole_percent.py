"""Progress as people read it."""

import math


def whole_percent(fraction: float) -> int:
    """Return how much of something is done in percent, rounded down: 100 only where all of it is."""
    # 0.29 * 100 is a hair less than 29
    percent = math.floor(round(100 * fraction, 6))
    return percent if fraction >= 1 else min(percent, 99)
