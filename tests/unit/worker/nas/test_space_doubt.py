"""The doubt that a process tuned on the pairs states: it grows with the distance from them."""

import numpy as np
import pytest
import torch

from app.domain.gray_code import num_bits, placed_bit_tables
from app.domain.hamming_graph import FactorFeatures
from app.domain.search_space import preset
from app.domain.whole_space.doubt import Doubt
from worker.nas import space_doubt
from worker.nas.space_doubt import fit_doubt

SPACE = preset("nas-bench-macro")
FEATURES = FactorFeatures(np.zeros(num_bits(SPACE), dtype=np.float32), placed_bit_tables(SPACE))


@pytest.fixture(scope="module")
def fitted():
    """Pairs whose last cells never change, with strong interactions."""
    rng = np.random.default_rng(0)
    choices_NL = np.unique(rng.integers(0, 3, (150, 8)), axis=0)
    choices_NL[:, 5:] = 0
    choices_NL = np.unique(choices_NL, axis=0)
    effect = rng.normal(size=(8, 3))
    accuracy_N = 0.6 + 0.02 * effect[np.arange(8), choices_NL].sum(1)
    accuracy_N += 0.02 * effect[0, choices_NL[:, 0]] * effect[1, choices_NL[:, 1]]
    return choices_NL, *fit_doubt(FEATURES, choices_NL, accuracy_N + 0.003 * rng.normal(size=len(accuracy_N)), rng)


def test_it_grows_with_the_distance(fitted):
    choices_NL, doubt, left_out_N, noise = fitted
    assert np.median(left_out_N) == pytest.approx(1.0)
    assert 0 < noise < 0.02
    far_NL = choices_NL.copy()
    far_NL[:, 5] = 2
    farther_NL = far_NL.copy()
    farther_NL[:, 6:] = 2
    near, far, farther = (np.median(doubt.stretch(rows)) for rows in (choices_NL, far_NL, farther_NL))
    assert near == 1.0 < far < farther
    assert np.median(doubt.deviation(choices_NL)) < doubt.typical


def test_a_pair_by_the_others_is_as_unsure_as_if_it_were_unknown(fitted):
    _, doubt, left_out_N, _ = fitted
    others = np.arange(1, len(doubt.choices_ML))
    covariance_MM = np.linalg.inv(doubt.inverse_MM)
    without = Doubt(
        doubt.factor_sizes,
        doubt.choices_ML[others],
        doubt.additive_CC,
        doubt.interacting_CC,
        np.linalg.inv(covariance_MM[1:, 1:]),
        doubt.pairwise,
        doubt.triple,
        doubt.noise,
        doubt.typical,
    )
    assert without.deviation(doubt.choices_ML[:1]) / doubt.typical == pytest.approx(left_out_N[:1], rel=1e-6)


def test_of_many_pairs_some_are_kept_and_all_get_an_interval(fitted, monkeypatch):
    """What is kept of a model grows with their square; a pair that is not kept is as any other architecture."""
    monkeypatch.setattr(space_doubt, "_MAX_PAIRS", 40)
    choices_NL, *_ = fitted
    accuracy_N = 0.6 + 0.01 * choices_NL.sum(1)
    doubt, own_N, _ = fit_doubt(FEATURES, choices_NL, accuracy_N, np.random.default_rng(3))
    assert len(doubt.choices_ML) == 40 < len(choices_NL) == len(own_N)
    kept_M = np.array([np.flatnonzero((choices_NL == row).all(1))[0] for row in doubt.choices_ML])
    assert own_N[kept_M] == pytest.approx(doubt.left_out_deviation() / doubt.typical)
    others = np.setdiff1d(np.arange(len(choices_NL)), kept_M)
    assert own_N[others] == pytest.approx(doubt.deviation(choices_NL[others]) / doubt.typical)


def test_equal_accuracies_are_no_division_by_zero(fitted):
    choices_NL, *_ = fitted
    doubt, own_N, noise = fit_doubt(FEATURES, choices_NL, np.full(len(choices_NL), 0.5), np.random.default_rng(0))
    assert np.isfinite(own_N).all()
    assert np.isfinite(doubt.stretch(choices_NL)).all()
    assert noise == pytest.approx(0.0, abs=1e-3)


def test_it_can_be_cancelled_and_leaves_the_threads_as_they_were(fitted):
    def cancel():
        raise KeyboardInterrupt

    choices_NL, *_ = fitted
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        fit_doubt(FEATURES, choices_NL, np.linspace(0, 1, len(choices_NL)), np.random.default_rng(0), on_step=cancel)
    assert torch.get_num_threads() == before
