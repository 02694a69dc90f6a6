"""What a round's fit says of itself."""

import numpy as np
import pytest

from app.domain.prediction_interval import PredictionInterval
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.pipeline.fit_quality import LEFT_OUT, judge
from worker.pipeline.ports import Fit, Pair

SPACE = preset("nas-bench-macro")
SUBSPACE = Subspace(SPACE, (0,) * 8, (0, 1, 2, 3))


def sampled(num_fitted: int, num_held_out: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs whose accuracy is additive up to a little noise."""
    rng = np.random.default_rng(0)
    index = rng.permutation(SUBSPACE.size)[: num_fitted + num_held_out]
    pairs = [
        Pair(code, 0.5 + 0.02 * sum(map(int, code)) + 0.005 * rng.normal(), number >= num_fitted)
        for number, code in enumerate(SUBSPACE.codes(index))
    ]
    return pairs[:num_fitted], pairs[num_fitted:]


def predictions(offset: float = 0.0) -> np.ndarray:
    choices = np.stack(np.unravel_index(np.arange(SUBSPACE.size), SUBSPACE.factor_sizes), axis=1)
    # two choices of the first cell are mixed up
    return (0.5 + offset + 0.02 * choices[:, 1:].sum(1)).astype(np.float32)


def test_the_baseline_is_judged_on_the_same_pairs() -> None:
    fitted, held_out = sampled(40, 30)
    tau, figures = judge(SUBSPACE, Fit(predictions(), {"label_noise": 0.01}), fitted, held_out)
    index = [SUBSPACE.index(SPACE.parse_code(p.code)) for p in held_out]
    assert tau == kendall_tau(predictions()[index], [p.accuracy for p in held_out])
    assert figures["additive_tau"] > 0.85 > tau  # type: ignore[operator]
    assert (figures["num_fitted"], figures["num_held_out"], figures["label_noise"]) == (40, 30, 0.01)


def test_a_predictor_without_an_interval_gets_that_of_the_held_out_pairs() -> None:
    fitted, held_out = sampled(40, 30)
    _, figures = judge(SUBSPACE, Fit(predictions(offset=0.1), {}), fitted, held_out)
    interval = PredictionInterval.from_dict(figures["interval"])
    assert interval.upper_G[0] < 0, "it is too optimistic by a tenth"
    assert figures["held_out_coverage"] is None


def test_the_interval_of_a_predictor_is_judged_by_the_held_out_pairs() -> None:
    fitted, held_out = sampled(40, 30)
    for half_width, coverage in ((0.0, 0.0), (1.0, 1.0)):
        interval = PredictionInterval(0.9, np.array([]), np.array([-half_width]), np.array([half_width]))
        _, figures = judge(SUBSPACE, Fit(predictions(), {}, interval), fitted, held_out)
        assert figures["held_out_coverage"] == pytest.approx(coverage)
        assert figures["interval"] == interval.to_dict()


def test_where_held_out_pairs_are_too_few_what_fitted_ones_were_without_themselves_is_kept() -> None:
    interval = PredictionInterval(0.9, np.array([]), np.array([-0.1]), np.array([0.1]))
    for num_held_out, is_kept in ((18, True), (19, False)):
        fitted, held_out = sampled(40, num_held_out)
        left_out = {SUBSPACE.index(SPACE.parse_code(p.code)): 0.5 for p in fitted}
        _, figures = judge(SUBSPACE, Fit(predictions(), {}, interval, left_out), fitted, held_out)
        assert (LEFT_OUT in figures) == is_kept
        _, figures = judge(SUBSPACE, Fit(predictions(), {}, interval), fitted, held_out)
        assert LEFT_OUT not in figures, "the predictor does not say"
