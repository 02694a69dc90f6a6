"""A process that a few nonsensical labels cannot bend, and that is the plain one without any."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.product_process import fit_process
from worker.nas.robust_process import RobustFit, fit_robust_process

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(6)))
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)
EVERYTHING = GRAPH.choices(np.arange(GRAPH.num_nodes))
TRUTH = 0.6 + 0.01 * (EVERYTHING * np.array([1, 3, 2, 2, 1, 4])).sum(1) - 0.02 * (EVERYTHING[:, 0] == EVERYTHING[:, 1])
KEPT = np.random.default_rng(0).permutation(GRAPH.num_nodes)[:150]
LABELS = (TRUTH + np.random.default_rng(1).normal(0, 0.004, GRAPH.num_nodes))[KEPT]


def fitted(label: Any) -> RobustFit:
    return fit_robust_process(SUBSPACE.factor_features(), EVERYTHING[KEPT], label, np.random.default_rng(2))


def tau(fit: RobustFit) -> float:
    others = np.setdiff1d(np.arange(GRAPH.num_nodes), KEPT)
    found = kendall_tau(fit.process.model.whole_space()[others], TRUTH[others])
    assert found is not None
    return found


def test_labels_that_none_contradicts_stay_and_so_does_the_fit() -> None:
    fit = fitted(LABELS)
    plain = fit_process(
        SUBSPACE.factor_features(),
        EVERYTHING[KEPT],
        (LABELS - LABELS.mean()) / LABELS.std(),
        np.random.default_rng(2),
    )
    assert fit.num_moved == 0
    assert fit.process.model.whole_space().tobytes() == plain.model.whole_space().tobytes()
    assert fit.believed_N.tobytes() == LABELS.tobytes()
    assert fit.noise == pytest.approx(0.004, rel=0.3)


@pytest.mark.parametrize("nonsense", [0.1, 1.0])
def test_broken_evaluations_bend_nothing(nonsense: float) -> None:
    broken = np.arange(0, 150, 30)
    spoilt = LABELS.copy()
    spoilt[broken] = nonsense
    fit, clean = fitted(spoilt), fitted(LABELS)
    assert fit.num_moved >= len(broken)
    assert (fit.believed_N != spoilt)[broken].all()
    assert np.abs(fit.believed_N - LABELS).max() < 0.1, "near what they should have been, or as they came"
    assert tau(fit) > tau(clean) - 0.02
    assert fit.noise < 0.012


def test_what_breaks_by_two_choices_together_is_no_nonsense() -> None:
    breaks = (EVERYTHING[:, 2] == 1) & (EVERYTHING[:, 4] == 2)
    spoilt = np.where(breaks[KEPT], 0.1, LABELS)
    fit = fitted(spoilt)
    predicted = fit.process.model.whole_space()
    assert predicted[breaks].mean() < predicted[~breaks].min() + 1.0
    assert fit.num_moved <= 5
    assert fit.explained_by_interactions > 0.3


def test_most_labels_may_be_equal() -> None:
    """Of a supernet that has hardly learnt; the others are not nonsense because these are predicted without error."""
    label = np.maximum(LABELS, np.quantile(LABELS, 0.7))
    fit = fitted(label)
    assert fit.num_moved < 15
    assert fitted(np.full(150, 0.5)).num_moved == 0


def test_labels_of_few_values_are_not_taken_for_nonsense() -> None:
    """Accuracies on forty images, of networks that hardly differ: most are equal, and none is predicted well."""
    label = np.random.default_rng(3).choice([0.1, 0.1, 0.1, 0.125, 0.15], 24)
    fit = fit_robust_process(SUBSPACE.factor_features(), EVERYTHING[KEPT[:24]], label, np.random.default_rng(2))
    assert fit.num_moved == 0
