"""Limits in millions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.lookup import in_units


@given(st.integers(0, 10**12))
def test_a_limit_is_exact_in_its_decimals(units: int) -> None:
    assert in_units(float(f"{units / 1e6:.6f}")) == units


@pytest.mark.parametrize(("millions", "units"), [(None, None), (0.0, 0), (400.0, 400_000_000), (0.0000019, 1)])
def test_limits(millions: float | None, units: int | None) -> None:
    assert in_units(millions) == units
