"""Limits as people give them, in millions and milliseconds, and why nothing meets some."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TypeVar

from app.domain.multi_adds import MILLION
from app.domain.multi_adds import in_units as exactly_in_units
from app.schemas.lookup import CostRanges

T = TypeVar("T", int, float)


def in_units(millions: float | None) -> int | None:
    """Return a limit in millions in units; None where there is no limit."""
    return None if millions is None else exactly_in_units(millions)


@dataclass(frozen=True)
class AskedLimits:
    """The limits of a lookup, as people give them.

    Attributes:
        max_madds: In millions; None: no limit.
        max_params: In millions; None: no limit.
        latencies: The devices whose latency is asked for, with its limit in milliseconds; None: no limit.
    """

    max_madds: float | None = None
    max_params: float | None = None
    latencies: tuple[tuple[str, float | None], ...] = ()


@dataclass(frozen=True)
class _Limit:
    """One limit that was given, with the range of what it limits.

    Attributes:
        given: What was asked, e.g. ``max_madds=400``.
        is_below: Whether no architecture of the table, or space, meets it.
        range: The range there, readable.
        elsewhere: What is to be had in the whole space, if that is more; readable.
    """

    given: str
    is_below: bool
    range: str
    elsewhere: str


def infeasible(where: str, feasible: CostRanges, whole: CostRanges, asked: AskedLimits) -> str:
    """Say why nothing meets the limits, and from where on something would.

    Args:
        where: What was asked: the table, or the search space.
        feasible: Its ranges.
        whole: Those of the whole search space.
        asked: The limits.
    """
    limits = list(_given(feasible, whole, asked))
    if reasons := [
        f"{limit.given} is below the cheapest architecture of this {where}; they go from {limit.range}"
        + (f" (the whole search space: from {limit.elsewhere}; ask it with scope=space)" if limit.elsewhere else "")
        for limit in limits
        if limit.is_below
    ]:
        return "; ".join(reasons)
    given = " and ".join(limit.given for limit in limits)
    return f"each limit can be met by itself, but no architecture of this {where} meets {given}; raise one of them"


def _given(feasible: CostRanges, whole: CostRanges, asked: AskedLimits) -> Iterator[_Limit]:
    """The limits that were given, one by one."""
    counts = (
        ("max_madds", "multi-adds", asked.max_madds, feasible.multi_adds, whole.multi_adds.min),
        ("max_params", "parameters", asked.max_params, feasible.params, whole.params.min),
    )
    for name, what, value, has, least in counts:
        if value is not None:
            yield _Limit(
                f"{name}={value:g}",
                (in_units(value) or 0) < has.min,
                f"{_millions(has.min, has.max)} {what}",
                f"{_rounded(least, 2, ROUND_CEILING)}M" if least < has.min else "",
            )
    for device, max_ms in asked.latencies:
        if max_ms is not None:
            range_ms, least_ms = feasible.latency_ms[device], whole.latency_ms[device].min
            yield _Limit(
                f"max_latency_ms={max_ms:g} on {device}",
                max_ms < range_ms.min,
                _milliseconds(range_ms.min, range_ms.max),
                f"{_with_digits(least_ms, 4, ROUND_CEILING):f} ms" if least_ms < range_ms.min else "",
            )


def _millions(least: int, most: int) -> str:
    """A range of counts in millions, with two decimals where that leaves a range."""
    lower, upper = _inwards(least, most, _rounded, range(2, 7))
    return f"{lower}M to {upper}M"


def _milliseconds(least: float, most: float) -> str:
    """A range of latencies, with four digits where that leaves a range."""
    lower, upper = _inwards(least, most, _with_digits, range(4, 18))
    return f"{lower:f} to {upper:f} ms"


def _inwards(
    least: T, most: T, rounded: Callable[[T, int, str], Decimal], places: Iterable[int]
) -> tuple[Decimal, Decimal]:
    """Bounds that can be asked for as they are told, by the first number of places at which they are a range."""
    bounds = ((rounded(least, n, ROUND_CEILING), rounded(most, n, ROUND_FLOOR)) for n in places)
    return next((lower, upper) for lower, upper in bounds if lower <= upper)


def _rounded(units: int, decimals: int, rounding: str) -> Decimal:
    return (Decimal(units) / MILLION).quantize(Decimal(1).scaleb(-decimals), rounding)


def _with_digits(value: float, digits: int, rounding: str) -> Decimal:
    return Context(prec=digits, rounding=rounding).create_decimal(repr(value)).normalize()
