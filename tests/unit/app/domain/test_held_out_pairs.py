"""Tau under limits: the same as scipy's over the pairs that are left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.held_out_pairs import HeldOutPairs
from app.domain.lookup_table import Limits
from app.domain.rank_correlation import kendall_tau


def pairs(num: int, seed: int = 0) -> HeldOutPairs:
    rng = np.random.default_rng(seed)
    # few values, so that there are ties on both sides
    predicted, accuracy = rng.integers(0, 8, num) / 8, rng.integers(0, 8, num) / 8
    return HeldOutPairs(predicted, accuracy, rng.integers(0, 50, num), rng.integers(0, 50, num))


@given(st.integers(0, 60), st.none() | st.integers(0, 50), st.none() | st.integers(0, 50))
def test_it_is_the_tau_of_the_pairs_within_the_limits(
    num: int, max_multi_adds: int | None, max_params: int | None
) -> None:
    held_out = pairs(num)
    within = (held_out.multi_adds_N <= (max_multi_adds if max_multi_adds is not None else 99)) & (
        held_out.params_N <= (max_params if max_params is not None else 99)
    )
    tau, num_within = held_out.tau_within(Limits(max_multi_adds, max_params))
    assert num_within == within.sum()
    assert tau == pytest.approx(kendall_tau(held_out.predicted_N[within], held_out.accuracy_N[within]), abs=1e-6)


def test_no_pair_has_no_tau() -> None:
    nothing = HeldOutPairs(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert nothing.tau_within(Limits()) == (None, 0)
