"""Lookup tables: order, digest, and the band against brute force."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.lookup_table import BAND_DEPTH, Limits, LookupTable
from app.domain.search_space import preset
from app.domain.subspace import Subspace

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")
SUBSPACE = Subspace(MACRO, (2,) * 8, (0, 1, 2))


def table_of(
    predicted: npt.ArrayLike, multi_adds: npt.ArrayLike, params: npt.ArrayLike, subspace: Subspace = SUBSPACE
) -> LookupTable:
    """A table with any columns; its subspace plays no part in the band."""
    return LookupTable(
        subspace,
        np.asarray(predicted, dtype=np.float32),
        np.asarray(multi_adds, dtype=np.int64),
        np.asarray(params, dtype=np.int64),
    )


def dominators(table: LookupTable) -> npt.NDArray[np.int64]:
    """For every row, how many come before it and cost no more of anything: by comparing all with all."""
    index = np.arange(table.num_rows)
    p, m, q = table.predicted_accuracy, table.multi_adds, table.params
    better = (p[None, :] > p[:, None]) | ((p[None, :] == p[:, None]) & (index[None, :] < index[:, None]))
    beats = better & (m[None, :] <= m[:, None]) & (q[None, :] <= q[:, None])
    counts: npt.NDArray[np.int64] = beats.sum(axis=1)
    return counts


def expected_band(table: LookupTable, depth: int) -> npt.NDArray[np.int64]:
    counts = dominators(table)
    return np.where(counts < depth, counts, -1)


def top_by_scan(table: LookupTable, num: int, limits: Limits) -> list[int]:
    """The best rows under the limits, in plain Python."""
    rows = [
        (-float(p), i)
        for i, (p, m, q) in enumerate(zip(table.predicted_accuracy, table.multi_adds, table.params, strict=True))
        if (limits.max_multi_adds is None or m <= limits.max_multi_adds)
        and (limits.max_params is None or q <= limits.max_params)
    ]
    return [i for _, i in sorted(rows)[:num]]


def top_from_band(table: LookupTable, num: int, limits: Limits, band: npt.NDArray[np.int16]) -> list[int]:
    """The same, looking at the band only."""
    kept = np.flatnonzero(band >= 0)
    inside = table_of(table.predicted_accuracy[kept], table.multi_adds[kept], table.params[kept])
    return kept[top_by_scan(inside, num, limits)].tolist()


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)
ANY_ROWS = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.integers(0, 2**40), st.integers(0, 10**7)), min_size=1, max_size=60
)


class TestBand:
    @given(st.one_of(ROWS, ANY_ROWS), st.integers(1, 12))
    @settings(deadline=None)
    def test_counts_equal_brute_force(self, rows: list[tuple[float, int, int]], depth: int) -> None:
        table = table_of(*zip(*rows, strict=True))
        assert table.band(depth).tolist() == expected_band(table, depth).tolist()

    @given(st.one_of(ROWS, ANY_ROWS), st.integers(1, 12), st.data())
    @settings(deadline=None)
    def test_any_limits_are_answered_from_the_band(
        self, rows: list[tuple[float, int, int]], depth: int, data: st.DataObject
    ) -> None:
        table = table_of(*zip(*rows, strict=True))
        limits = Limits(
            data.draw(st.none() | st.sampled_from(table.multi_adds.tolist()) | st.integers(0, 2**40)),
            data.draw(st.none() | st.sampled_from(table.params.tolist()) | st.integers(0, 10**7)),
        )
        num = data.draw(st.integers(1, depth))
        expected = top_by_scan(table, num, limits)
        assert top_from_band(table, num, limits, table.band(depth)) == expected
        assert table.top(num, limits).tolist() == expected

    @pytest.mark.parametrize("num_rows", [1, 2, 4095, 4096, 4097, 9000])
    @pytest.mark.parametrize(
        "draw",
        [
            pytest.param(lambda rng, n: rng.random(n), id="all-different"),
            pytest.param(lambda rng, n: rng.integers(0, 5, n), id="many-ties"),
        ],
    )
    def test_around_and_beyond_one_block(
        self, num_rows: int, draw: Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
    ) -> None:
        rng = np.random.default_rng(num_rows)
        multi_adds = rng.integers(10**8, 6 * 10**8, num_rows)
        table = table_of(draw(rng, num_rows), multi_adds, multi_adds // 100 + rng.integers(0, 10**5, num_rows))
        assert table.band().tolist() == expected_band(table, BAND_DEPTH).tolist()

    def test_costs_against_predictions(self) -> None:
        """The better the dearer: nobody beats anybody, and all rows are in the band."""
        ascending = np.arange(10_000)
        assert not table_of(ascending, ascending, ascending).band().any()

    def test_one_order_for_everything(self) -> None:
        """The better the cheaper: a row is beaten by all before it."""
        ascending = np.arange(10_000)
        expected = [i if i < BAND_DEPTH else -1 for i in range(10_000)]
        assert table_of(-ascending, ascending, ascending).band().tolist() == expected

    def test_all_rows_alike(self) -> None:
        same = np.ones(10_000)
        assert table_of(same, same, same).band().tolist() == [i if i < BAND_DEPTH else -1 for i in range(10_000)]

    def test_a_whole_round_under_random_limits(self) -> None:
        """46,656 rows with real costs and predictions that follow them, as a predictor's do."""
        subspace = Subspace(FAIRNAS, (3,) * 19, (0, 5, 9, 12, 15, 18))
        rng = np.random.default_rng(3)
        multi_adds, _ = subspace.costs()
        noisy = 0.5 + multi_adds / 2e9 + rng.normal(0, 0.005, subspace.size)
        table = LookupTable.from_predictions(subspace, noisy.astype(np.float32))
        band = table.band()
        assert band.dtype == np.int16
        assert 0.005 < np.mean(band >= 0) < 0.5
        kept = np.flatnonzero(band >= 0)
        in_order = kept[np.lexsort((kept, -table.predicted_accuracy[kept]))]
        for _ in range(300):
            max_multi_adds, max_params = rng.choice(table.multi_adds), rng.choice(table.params)
            limits = Limits(int(max_multi_adds), int(max_params) if rng.random() < 0.5 else None)
            num = int(rng.integers(1, BAND_DEPTH + 1))
            fits = table.multi_adds[in_order] <= max_multi_adds
            if limits.max_params is not None:
                fits &= table.params[in_order] <= max_params
            assert in_order[fits][:num].tolist() == table.top(num, limits).tolist()


class TestTable:
    def test_from_predictions_has_the_targets_costs(self) -> None:
        predicted = np.linspace(0, 1, SUBSPACE.size)
        table = LookupTable.from_predictions(SUBSPACE, predicted)
        assert table.num_rows == 27
        assert table.predicted_accuracy.dtype == np.float32
        assert np.array_equal(table.multi_adds, SUBSPACE.costs()[0])
        assert np.array_equal(table.params, SUBSPACE.costs()[1])

    @pytest.mark.parametrize("shape", [(26,), (28,), (27, 1)])
    def test_one_prediction_per_architecture(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="27 predictions are needed, not an array of shape"):
            LookupTable.from_predictions(SUBSPACE, np.zeros(shape, dtype=np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_predictor_that_diverged(self, value: float) -> None:
        predicted = np.zeros(27, dtype=np.float32)
        predicted[13] = value
        with pytest.raises(ValueError, match="lower gcn_learning_rate"):
            LookupTable.from_predictions(SUBSPACE, predicted)

    def test_order_is_by_prediction_then_index(self) -> None:
        table = table_of([0.1, 0.9, 0.5, 0.9, 0.5], [1] * 5, [1] * 5)
        assert table.order.tolist() == [1, 3, 2, 4, 0]
        assert table.top(3).tolist() == [1, 3, 2]
        assert table.top(99).tolist() == [1, 3, 2, 4, 0]

    def test_limits_are_inclusive(self) -> None:
        table = table_of([0.1, 0.9, 0.5], [10, 30, 20], [5, 5, 9])
        assert table.top(9, Limits(max_multi_adds=20)).tolist() == [2, 0]
        assert table.top(9, Limits(max_multi_adds=19)).tolist() == [0]
        assert table.top(9, Limits(max_params=8)).tolist() == [1, 0]
        assert table.top(9, Limits(max_multi_adds=9)).tolist() == []

    @pytest.mark.parametrize("name", ["max_multi_adds", "max_params"])
    def test_negative_limits(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must not be negative, -1 is"):
            Limits(**{name: -1})


class TestDigest:
    def test_equal_tables(self) -> None:
        predicted = np.random.default_rng(0).random(27).astype(np.float32)
        assert (
            LookupTable.from_predictions(SUBSPACE, predicted).digest()
            == LookupTable.from_predictions(SUBSPACE, predicted.copy()).digest()
        )

    def test_stays_what_it_is(self) -> None:
        """Digests are stored: a later version must come to the same."""
        predicted = (np.arange(27) / 32).astype(np.float32)
        assert (
            LookupTable.from_predictions(SUBSPACE, predicted).digest()
            == "f13e97593c22cd16f233c14eaebbad993e83892e2686feec7e60cb5eb73b4813"
        )

    @pytest.mark.parametrize("column", ["predicted_accuracy", "multi_adds", "params"])
    def test_the_smallest_difference_shows(self, column: str) -> None:
        table = LookupTable.from_predictions(SUBSPACE, np.full(27, 0.5, dtype=np.float32))
        values = getattr(table, column).copy()
        values[26] = np.nextafter(values[26], np.float32(1)) if values.dtype == np.float32 else values[26] + 1
        assert dataclasses.replace(table, **{column: values}).digest() != table.digest()

    def test_the_same_figures_of_other_architectures_are_another_table(self) -> None:
        columns = np.ones(27), np.ones(27), np.ones(27)
        other = Subspace(MACRO, (2,) * 8, (0, 1, 3))
        assert table_of(*columns).digest() != table_of(*columns, subspace=other).digest()
