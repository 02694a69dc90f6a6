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
    assert not fit.is_moved_N.any()
    assert fit.process.model.whole_space().tobytes() == plain.model.whole_space().tobytes()
    assert fit.believed_N.tobytes() == LABELS.tobytes()
    assert fit.noise == pytest.approx(0.004, rel=0.3)


@pytest.mark.parametrize("nonsense", [0.1, 1.0])
def test_broken_evaluations_bend_nothing(nonsense: float) -> None:
    broken = np.arange(0, 150, 30)
    spoilt = LABELS.copy()
    spoilt[broken] = nonsense
    fit, clean = fitted(spoilt), fitted(LABELS)
    assert fit.is_moved_N.sum() >= len(broken)
    assert (fit.believed_N != spoilt)[broken].all()
    assert np.abs(fit.believed_N - LABELS).max() < 0.1, "near what they should have been, or as they came"
    assert tau(fit) > tau(clean) - 0.02
    assert fit.noise < 0.012


def test_what_breaks_by_two_choices_together_is_no_nonsense() -> None:
    breaks = (EVERYTHING[:, 2] == 1) & (EVERYTHING[:, 4] == 2)
    fit = fitted(np.where(breaks[KEPT], 0.1, LABELS))
    predicted = fit.process.model.whole_space()
    assert (predicted[breaks] < np.quantile(predicted[~breaks], 0.05)).mean() > 0.9
    assert fit.explained_by_interactions > 0.3


def test_networks_that_alone_work_are_no_nonsense() -> None:
    """Of a supernet that has hardly learnt; broken evaluations are too low, never too high."""
    rng = np.random.default_rng(4)
    label = 0.1 + rng.normal(0, 0.002, 150)
    works = np.arange(0, 150, 25)
    label[works] = 0.6
    fit = fitted(label)
    assert (fit.believed_N[works] > 0.1 + 0.9 * label.std()).all()
    assert not np.delete(fit.is_moved_N, works).any()


def test_a_few_images_more_or_fewer_are_no_nonsense() -> None:
    """Accuracies on forty images, of networks of which nearly all are equal and predicted without error."""
    label = np.full(24, 0.125)
    label[[3, 11]] = 0.1, 0.15
    label[5] += 1e-16
    fit = fit_robust_process(SUBSPACE.factor_features(), EVERYTHING[KEPT[:24]], label, np.random.default_rng(2))
    assert not fit.is_moved_N.any()
    assert not fitted(np.full(150, 0.5)).is_moved_N.any()
