"""Limits as people give them: exact in their decimals, and told apart where nothing meets them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.multi_adds import Cost
from app.schemas.lookup import CostRanges
from app.services.limits import AskedLimits, in_units, infeasible
from app.services.lookup_items import cost_ranges


@given(st.integers(0, 10**12))
def test_a_limit_is_exact_in_its_decimals(units: int) -> None:
    assert in_units(float(f"{units / 1e6:.6f}")) == units


@pytest.mark.parametrize(("millions", "units"), [(None, None), (0.0, 0), (400.0, 400_000_000), (0.0000019, 1)])
def test_limits(millions: float | None, units: int | None) -> None:
    assert in_units(millions) == units


def ranges(multi_adds: tuple[int, int] = (20_000_000, 90_000_000), least_ms: float = 2.0) -> CostRanges:
    smallest, largest = (Cost(count, params) for count, params in zip(multi_adds, (1_000_000, 3_000_000), strict=True))
    return cost_ranges((smallest, largest), {"pixel": (least_ms, 9.0)})


WHOLE = ranges((15_000_000, 140_000_000), least_ms=1.5)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            AskedLimits(max_madds=19.5),
            (
                "max_madds=19.5 is below the cheapest architecture of this table; they go from 20.00M to 90.00M "
                "multi-adds (the whole search space: from 15.00M; ask it with scope=space)"
            ),
        ),
        (
            AskedLimits(max_params=0.5),
            "max_params=0.5 is below the cheapest architecture of this table; they go from 1.00M to 3.00M parameters",
        ),
        (
            AskedLimits(latencies=(("pixel", 1.9),)),
            (
                "max_latency_ms=1.9 on pixel is below the cheapest architecture of this table; they go from 2 to 9 ms "
                "(the whole search space: from 1.5 ms; ask it with scope=space)"
            ),
        ),
    ],
)
def test_a_limit_below_everything_tells_the_range(asked: AskedLimits, says: str) -> None:
    assert infeasible("table", ranges(), WHOLE, asked) == says


@pytest.mark.parametrize(
    ("multi_adds", "told"),
    [
        ((7_713_001, 7_758_999), "7.72M to 7.75M"),
        ((7_713_001, 7_713_901), "7.7131M to 7.7139M"),
        ((7_713_001, 7_713_001), "7.713001M to 7.713001M"),
        ((3_200, 8_400), "0.004M to 0.008M"),
    ],
)
def test_the_range_that_is_told_can_be_asked_for(multi_adds: tuple[int, int], told: str) -> None:
    found = ranges(multi_adds)
    assert f"they go from {told} multi-adds" in infeasible("table", found, found, AskedLimits(max_madds=0.001))


@given(st.floats(1e-3, 1e4), st.floats(0, 10))
def test_so_can_that_of_latencies(least_ms: float, more_ms: float) -> None:
    found = cost_ranges((Cost(1, 1), Cost(1, 1)), {"pixel": (least_ms, least_ms + more_ms)})
    message = infeasible("table", found, found, AskedLimits(latencies=(("pixel", least_ms / 2),)))
    lower, upper = (float(text) for text in message.split("go from ")[1].removesuffix(" ms").split(" to "))
    assert least_ms <= lower <= upper <= least_ms + more_ms
    assert lower <= max(least_ms * 1.001, upper)


def test_every_limit_that_is_too_low_is_named_and_no_other() -> None:
    message = infeasible("table", ranges(), WHOLE, AskedLimits(5, 0.5, (("pixel", 3.0),)))
    assert message.count("is below the cheapest") == 2
    assert "max_madds=5" in message
    assert "max_params=0.5" in message
    assert "pixel" not in message


def test_a_limit_that_is_just_met_is_not_too_low() -> None:
    asked = AskedLimits(max_madds=20, max_params=1, latencies=(("pixel", 2.0), ("server", None)))
    assert infeasible("search space", ranges(), ranges(), asked) == (
        "each limit can be met by itself, but no architecture of this search space meets max_madds=20 and max_params=1 "
        "and max_latency_ms=2 on pixel; raise one of them"
    )
