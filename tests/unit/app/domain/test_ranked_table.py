"""A table in memory under limits: what a scan of all rows gives."""

import numpy as np
import pytest

from app.domain.lookup_table import Limits, LookupTable
from app.domain.ranked_table import RankedTable
from app.domain.search_space import preset
from app.domain.subspace import Subspace, SuperCell
from app.domain.whole_space.additive_function import AdditiveFunction

SPACE = preset("fairnas")
SUBSPACE = Subspace(SPACE, (3,) * 19, (2, 5, 18), SuperCell((0, 7), ((1, 2), (0, 0), (5, 4))))


@pytest.fixture(scope="module")
def table() -> LookupTable:
    predicted_N = np.random.default_rng(0).random(SUBSPACE.size).round(2).astype(np.float32)  # with equal ones
    return LookupTable.from_predictions(SUBSPACE, predicted_N)


@pytest.fixture(scope="module")
def ranked(table: LookupTable) -> RankedTable:
    return RankedTable.from_predictions(SUBSPACE, table.predicted_accuracy)


def test_multi_adds_and_parameters_as_in_the_table(table: LookupTable, ranked: RankedTable) -> None:
    for row in range(0, SUBSPACE.size, 40):
        multi_adds, params = int(table.multi_adds[row]), int(table.params[-row])
        limits = [(ranked.costs["multi_adds"], multi_adds), (ranked.costs["params"], params)]
        assert ranked.top(7, limits) == table.top(7, Limits(multi_adds, params)).tolist()
    assert ranked.top(SUBSPACE.size, []) == table.top(SUBSPACE.size).tolist()
    assert ranked.range(ranked.costs["params"]) == (table.params.min(), table.params.max())


def test_any_sum_over_cells_can_be_limited(table: LookupTable, ranked: RankedTable) -> None:
    rng = np.random.default_rng(1)
    cost = AdditiveFunction(0.1, tuple(rng.random(n) for n in SPACE.num_choices))
    cost_N = np.array([cost.of(np.array([SUBSPACE.architecture(row)]))[0] for row in range(SUBSPACE.size)])
    for limit in np.sort(cost_N)[::50]:
        expected = [row for row in table.top(SUBSPACE.size).tolist() if cost_N[row] <= limit][:9]
        assert ranked.top(9, [(cost, float(limit))]) == expected
    assert ranked.top(9, [(cost, float(cost_N.min()) - 1e-9)]) == []
