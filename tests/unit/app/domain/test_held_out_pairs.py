"""Tau under limits: the same as scipy's over the pairs that are left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.held_out_pairs import HeldOutPairs
from app.domain.lookup_table import Limits
from app.domain.rank_correlation import kendall_tau
from app.domain.whole_space.additive_function import AdditiveFunction


def pairs(num: int, seed: int = 0) -> HeldOutPairs:
    rng = np.random.default_rng(seed)
    # few values, so that there are ties on both sides
    predicted, accuracy = rng.integers(0, 8, num) / 8, rng.integers(0, 8, num) / 8
    costs = rng.integers(0, 50, num), rng.integers(0, 50, num)
    return HeldOutPairs(predicted, accuracy, *costs, rng.integers(0, 3, (num, 4)))


@given(
    st.integers(0, 60),
    st.none() | st.integers(0, 50),
    st.none() | st.integers(0, 50),
    st.lists(st.sampled_from([0.5, 1.0, 4.0, 6.0, 9.0]), max_size=2),
)
def test_it_is_the_tau_of_the_pairs_within_the_limits(
    num: int, max_multi_adds: int | None, max_params: int | None, max_ms: list[float]
) -> None:
    held_out = pairs(num)
    within = (held_out.multi_adds_N <= (max_multi_adds if max_multi_adds is not None else 99)) & (
        held_out.params_N <= (max_params if max_params is not None else 99)
    )
    latencies = [(AdditiveFunction(0.5 * n, (np.arange(3.0),) * 4), limit) for n, limit in enumerate(max_ms)]
    for number, limit in enumerate(max_ms):
        within &= 0.5 * number + held_out.choices_NL.sum(1) <= limit
    tau, num_within = held_out.tau_within(Limits(max_multi_adds, max_params), latencies)
    assert num_within == within.sum()
    assert tau == pytest.approx(kendall_tau(held_out.predicted_N[within], held_out.accuracy_N[within]), abs=1e-6)


def test_no_pair_has_no_tau() -> None:
    none = np.zeros(0, dtype=np.int64)
    nothing = HeldOutPairs(np.zeros(0), np.zeros(0), none, none, none.reshape(0, 4))
    latency = AdditiveFunction(0.0, (np.arange(3.0),) * 4)
    assert nothing.tau_within(Limits(max_params=3), [(latency, 3.0)]) == (None, 0)
