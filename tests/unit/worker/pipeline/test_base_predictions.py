"""What labels set against each other, and how far z may lie from what they make of it where pairs are few."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.domain.lookup_table import LookupTable
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_ridge import fit_additive
from worker.nas.standalone_blend import StandaloneBlend
from worker.pipeline.base_predictions import base_predictions, corrected_interval
from worker.pipeline.ports import Pair

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(7)))
CHOICES = np.stack(np.unravel_index(np.arange(SUBSPACE.size), SUBSPACE.factor_sizes), axis=1)
TRUTH = 0.3 + 0.01 * (CHOICES * np.arange(1, 8)).sum(1)
Z = TRUTH + np.random.default_rng(0).normal(0, 0.01, SUBSPACE.size)
SEARCH: Any = SimpleNamespace(config=SimpleNamespace(seed=0))
CHOSEN = np.random.default_rng(1).permutation(SUBSPACE.size)[:60]
PAIRS = [
    Pair(code, z, number >= 54)
    for number, (code, z) in enumerate(zip(SUBSPACE.codes(CHOSEN), Z[CHOSEN].tolist(), strict=True))
]


def blended(weight: float) -> StandaloneBlend:
    """Labels that give the predictor a weight, and the safest prediction the rest."""
    nothing = np.zeros(0)
    return StandaloneBlend(np.array([1 - weight, weight]), (np.zeros(3),) * 8, nothing, nothing, 0.0)


@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_intervals_around_corrected_predictions_of_few_pairs(weight: float) -> None:
    """The predictor knows the pairs by heart, so that its errors on these say nothing."""
    fitted_N = CHOSEN[:54]
    additive = fit_additive(SUBSPACE.factor_sizes, CHOICES[fitted_N], Z[fitted_N])
    by_heart = additive.function.whole_space().astype(np.float32)
    by_heart[fitted_N] = Z[fitted_N]
    base, blend = base_predictions(SEARCH, 0, LookupTable.from_predictions(SUBSPACE, by_heart), PAIRS), blended(weight)
    choices_NL = SUBSPACE.architectures(np.arange(SUBSPACE.size)).astype(np.int64)
    corrected = LookupTable.from_predictions(
        SUBSPACE, base.corrected(blend, base.score_SK, choices_NL).astype(np.float32)
    )
    left_out = {str(row): value for row, value in zip(fitted_N.tolist(), additive.left_out_N.tolist(), strict=True)}
    interval = corrected_interval(corrected, PAIRS, base, blend, left_out)
    assert interval is not None
    others = np.setdiff1d(np.arange(SUBSPACE.size), CHOSEN)
    lower_N, upper_N = interval.bounds(corrected.predicted_accuracy[others].astype(np.float64))
    inside = ((Z[others] >= lower_N) & (Z[others] <= upper_N)).mean()
    assert 0.8 < inside < 0.98
    assert corrected_interval(corrected, PAIRS, base, blend, {}) is None, "six held-out pairs alone say nothing"
