"""Progress in whole percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.whole_percent import whole_percent


@pytest.mark.parametrize("percent", range(101))
def test_what_is_whole_stays(percent: int) -> None:
    assert whole_percent(percent / 100) == percent


@pytest.mark.parametrize(("fraction", "percent"), [(0.999, 99), (0.995, 99), (0.0099, 0), (1 - 1e-12, 99), (1.0, 100)])
def test_it_is_rounded_down(fraction: float, percent: int) -> None:
    assert whole_percent(fraction) == percent


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_never_falls_and_is_whole_at_the_end_only(first: float, second: float) -> None:
    assert whole_percent(min(first, second)) <= whole_percent(max(first, second))
    assert (whole_percent(first) == 100) == (first == 1)
