"""Limits as people give them, in millions, and why nothing meets some."""

import math
from decimal import Decimal

from app.domain.multi_adds import Cost
from app.schemas.lookup import CostRanges

MILLION = 1_000_000


def in_units(millions: float | None) -> int | None:
    """Return a limit in millions as a whole number of units, exact in the decimals that were given."""
    return None if millions is None else math.floor(Decimal(repr(millions)) * MILLION)


def infeasible(
    where: str, feasible: CostRanges, smallest: Cost, max_madds: float | None, max_params: float | None
) -> str:
    """Say why nothing meets the limits, and from where on something would.

    Args:
        where: What was asked: the table, or the search space.
        feasible: Its ranges.
        smallest: Smallest costs of the whole search space.
        max_madds: The limits that were given, in millions.
        max_params: The same.
    """
    limits = (
        ("max_madds", "multi-adds", max_madds, feasible.multi_adds, smallest.multi_adds),
        ("max_params", "parameters", max_params, feasible.params, smallest.params),
    )
    reasons = []
    for name, what, value, has, least in limits:
        if value is not None and (in_units(value) or 0) < has.min:
            reason = f"{name}={value:g} is below the cheapest architecture of this {where}, which go from "
            reason += f"{has.min / MILLION:.2f}M to {has.max / MILLION:.2f}M {what}"
            if least < has.min:
                reason += f" (the whole search space: from {least / MILLION:.2f}M; ask it with scope=space)"
            reasons.append(reason)
    if reasons:
        return "; ".join(reasons)
    given = " and ".join(f"{name}={value:g}" for name, _, value, *_ in limits if value is not None)
    return f"each limit can be met by itself, but no architecture of this {where} meets {given}; raise one of them"
