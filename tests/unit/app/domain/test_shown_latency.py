"""Latencies as answers have them, and the limits that fit to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.shown_latency import full_ms, shown_ms

LATENCIES = st.one_of(st.floats(0, 1e7), st.decimals(0, 10_000, places=3).map(float).map(lambda ms: ms * (1 + 1e-15)))


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(6.88000000000001, 6.88), (6.87999999999999, 6.88), (0.1 + 0.2, 0.3), (0.0, 0.0), (3.94123456, 3.94123456)],
)
def test_the_noise_of_sums_is_not_shown(ms: float, shown: float) -> None:
    assert shown_ms(ms) == shown


@given(LATENCIES)
def test_what_was_shown_is_a_limit_that_is_met(ms: float) -> None:
    assert ms <= full_ms(shown_ms(ms))


@given(LATENCIES, st.one_of(LATENCIES, st.floats(-1e-9, 1e-9)))
def test_nothing_within_a_limit_is_shown_beyond_it(max_ms: float, other: float) -> None:
    for ms in (other, max_ms, max_ms * (1 + other) if other < 1 else max_ms):
        if 0 <= ms <= full_ms(max_ms):
            assert shown_ms(ms, max_ms) <= max_ms


@given(LATENCIES)
def test_a_limit_is_what_was_asked(max_ms: float) -> None:
    assert max_ms <= full_ms(max_ms) <= max_ms * (1 + 1e-11)
