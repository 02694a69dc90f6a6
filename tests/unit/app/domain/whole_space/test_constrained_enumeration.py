"""The k best under limits against a scan of the whole space."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.domain.multi_adds import cell_costs, fixed_cost
from app.domain.search_space import preset
from app.domain.whole_space import constrained_enumeration, limited_score
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.constrained_enumeration import ConstrainedEnumeration


def every_architecture(sizes):
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)


def scanned(score, costs, limits, num_best):
    """The answer by definition: all architectures, those within the limits, by score and then lexicographically."""
    choices_NL = every_architecture(score.factor_sizes)
    within = np.ones(len(choices_NL), dtype=bool)
    for cost, limit in zip(costs, limits, strict=True):
        if limit is not None:
            within &= cost.of(choices_NL) <= limit
    choices_NL = choices_NL[within]
    score_N = score.of(choices_NL)
    order = np.lexsort((np.arange(len(score_N)), -score_N))[:num_best]
    return choices_NL[order], score_N[order]


def assert_as_scanned(score, costs, limits, num_best):
    found = ConstrainedEnumeration(score, tuple(costs)).best(limits, num_best)
    choices_NL, score_N = scanned(score, costs, limits, num_best)
    assert found.is_proven
    assert found.choices_NL.tolist() == choices_NL.tolist()
    assert found.score_N.tolist() == score_N.tolist()


@dataclass(frozen=True)
class Query:
    score: AdditiveFunction
    costs: list[AdditiveFunction]
    limits: list[float | None]
    num_best: int


ENTRIES = {
    "any": st.floats(-1, 1, allow_subnormal=False),
    "few values": st.sampled_from([-2.0, -1.0, 0.0, 1.0]),
    "tenths": st.integers(-3, 3).map(lambda n: n / 10),
    "all the same": st.just(0.5),
    "large integers": st.integers(0, 10**9).map(float),
}


@st.composite
def functions(draw, sizes):
    entry = ENTRIES[draw(st.sampled_from(sorted(ENTRIES)))]
    tables = tuple(np.array(draw(st.lists(entry, min_size=n, max_size=n))) for n in sizes)
    return AdditiveFunction(draw(st.sampled_from([0.0, 0.7, -3.0])), tables)


@st.composite
def limits_on(draw, cost):
    """None, infinity, outside the space, or exactly what some architecture takes."""
    met = float(cost.of([[draw(st.integers(0, n - 1)) for n in cost.factor_sizes]])[0])
    beyond = [cost.minimum - 1.0, cost.maximum + 1.0, math.inf, None]
    between = [met, met, met, math.nextafter(met, -math.inf), cost.minimum, cost.maximum, (met + cost.minimum) / 2]
    return draw(st.sampled_from(between + beyond))


@st.composite
def queries(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    costs = draw(st.lists(functions(sizes), max_size=4))
    limits = [draw(limits_on(cost)) for cost in costs]
    return Query(draw(functions(sizes)), costs, limits, draw(st.integers(1, 30) | st.integers(1, 5000)))


TIES = AdditiveFunction(0.0, tuple(np.zeros(3) for _ in range(6)))
RISING = AdditiveFunction(0.0, tuple(np.arange(3.0) for _ in range(6)))


@given(queries())
@example(Query(TIES, [RISING], [7.0], 10))
@example(Query(TIES, [RISING, AdditiveFunction(0.0, tuple(-table for table in RISING.tables))], [6.0, -6.0], 20))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_query_equals_a_scan_of_the_space(query):
    assert_as_scanned(query.score, query.costs, query.limits, query.num_best)


@pytest.mark.parametrize("num_bins", [2, 3, 17])
@given(query=queries())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_loose_bounds_and_narrow_sweeps_change_the_work_and_not_the_answer(num_bins, query, monkeypatch):
    monkeypatch.setattr(limited_score, "NUM_BINS", num_bins)
    monkeypatch.setattr(constrained_enumeration, "_FIRST_SWEEP_SURPLUS", 0)
    assert_as_scanned(query.score, query.costs, query.limits, min(query.num_best, 3))


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_keys_of_several_words_keep_the_order(seed):
    rng = np.random.default_rng(seed)
    score = AdditiveFunction(0.0, tuple(rng.integers(0, 2, 3).astype(float) for _ in range(6)))
    cost = AdditiveFunction(0.0, tuple(rng.integers(0, 5, 3).astype(float) for _ in range(6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constrained_enumeration, "_WORD_LIMIT", 8)
        assert_as_scanned(score, [cost], [12.0], 40)


@pytest.mark.parametrize(("name", "num_cells"), [("nas-bench-macro", 8), ("fairnas", 7)])
@pytest.mark.parametrize("seed", range(4))
def test_spaces_that_can_be_listed(name, num_cells, seed):
    space, rng = preset(name), np.random.default_rng(seed)
    per_cell = cell_costs(space)[:num_cells]
    costs = [
        AdditiveFunction(
            getattr(fixed_cost(space), figure), tuple(np.array([getattr(c, figure) for c in cell]) for cell in per_cell)
        )
        for figure in ("multi_adds", "params")
    ]
    costs.append(AdditiveFunction(1.5, tuple(rng.uniform(0.1, 1.0, len(cell)) for cell in per_cell)))
    score = AdditiveFunction(
        0.7, tuple(rng.normal(0, 0.01, len(cell)) + 0.01 * np.arange(len(cell)) for cell in per_cell)
    )
    whole = [cost.whole_space() for cost in costs]
    for quantile in (0.0, 0.0005, 0.1, 0.6):
        for limited in ((0,), (1,), (0, 1, 2)):
            limits = [float(np.quantile(w, quantile)) if i in limited else None for i, w in enumerate(whole)]
            assert_as_scanned(score, costs, limits, 500)


@pytest.mark.parametrize("max_madds", [250, 300, 325, 400, 500, 557, 558])
def test_every_limit_of_the_fairnas_space_has_answers_at_or_under_it(max_madds):
    space = preset("fairnas")
    tables = tuple(np.array([float(choice.multi_adds) for choice in cell]) for cell in cell_costs(space))
    multi_adds = AdditiveFunction(fixed_cost(space).multi_adds, tables)
    score = AdditiveFunction(0.5, tuple(np.sqrt(table / 1e9) for table in tables))
    found = ConstrainedEnumeration(score, (multi_adds,)).best([max_madds * 1e6], 100)
    assert len(found.score_N) == 100 or max_madds == 250
    assert found.choices_NL.size
    assert multi_adds.of(found.choices_NL).max() <= max_madds * 1e6
    assert (np.diff(found.score_N) <= 0).all()
    assert len(np.unique(found.choices_NL, axis=0)) == len(found.score_N)


def test_nothing_fits_below_the_smallest_architecture():
    cost = AdditiveFunction(1.0, (np.array([1.0, 2.0]), np.array([3.0])))
    found = ConstrainedEnumeration(cost, (cost,)).best([4.999], 5)
    assert found.choices_NL.shape == (0, 2)
    assert len(ConstrainedEnumeration(cost, (cost,)).best([5.0], 5).score_N) == 1


def test_64_cells_of_10_choices():
    rng = np.random.default_rng(0)
    cost = AdditiveFunction(0.0, tuple(rng.integers(0, 9, 10).astype(float) for _ in range(64)))
    score = AdditiveFunction(0.0, tuple(-(table**2) for table in cost.tables))
    found = ConstrainedEnumeration(score, (cost,)).best([cost.minimum + 1], 50)
    assert (cost.of(found.choices_NL) <= cost.minimum + 1).all()
    np.testing.assert_array_equal(score.of(found.choices_NL), found.score_N)
    assert found.score_N[0] == score.maximum


def test_work_beyond_the_given_is_not_done_and_said_so():
    rng = np.random.default_rng(3)
    costs = tuple(AdditiveFunction(0.0, tuple(rng.random(6) for _ in range(19))) for _ in range(5))
    score = AdditiveFunction(0.0, tuple(sum(cost.tables[i] for cost in costs) for i in range(19)))
    limits = [cost.minimum + 0.35 * (cost.maximum - cost.minimum) for cost in costs]
    found = ConstrainedEnumeration(score, costs).best(limits, 1, max_expanded=10)
    assert not found.is_proven
    assert all((cost.of(found.choices_NL) <= limit).all() for cost, limit in zip(costs, limits, strict=True))


def test_unusable_queries_are_refused():
    one, two = AdditiveFunction(0.0, (np.zeros(2),)), AdditiveFunction(0.0, (np.zeros(3),))
    with pytest.raises(ValueError, match="cost 0 has choices"):
        ConstrainedEnumeration(one, (two,))
    with pytest.raises(ValueError, match="255 choices"):
        ConstrainedEnumeration(AdditiveFunction(0.0, (np.zeros(256),)), ())
    enumeration = ConstrainedEnumeration(one, (one,))
    for limits in ([], [math.nan], [1.0, 2.0]):
        with pytest.raises(ValueError, match="give 1 limits"):
            enumeration.best(limits, 1)
    with pytest.raises(ValueError, match="at least 1"):
        enumeration.best([None], 0)


def test_a_search_cut_short_goes_on_until_something_is_found_and_says_so() -> None:
    rng = np.random.default_rng(3)
    score, *costs = (AdditiveFunction(0.0, tuple(rng.uniform(0, 1, 6) for _ in range(14))) for _ in range(6))
    middle = [float(cost.of(rng.integers(0, 6, (1, 14)))[0]) for cost in costs]
    enumeration = ConstrainedEnumeration(score, tuple(costs))
    short = enumeration.best(middle, 50, max_expanded=100, num_needed=10)
    assert not short.is_proven
    assert len(short.score_N) >= 1
    whole = enumeration.best(middle, 50)
    assert short.num_expanded <= whole.num_expanded
    assert whole.is_proven
    for cost, limit in zip(costs, middle, strict=True):
        assert (cost.of(short.choices_NL) <= limit).all()
