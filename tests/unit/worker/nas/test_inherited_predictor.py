"""The predictor of a supernet's z: nearly additive, calibrated, the same every time."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.inherited_predictor import INTERACTION_SHARE, InheritedFit, fit_inherited

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(7)))
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)
EVERYTHING = GRAPH.choices(np.arange(GRAPH.num_nodes))
TRUTH = 0.9 - 0.05 * np.exp(-0.2 * (EVERYTHING * np.arange(1, 8)).sum(1) / 7)


def z_of_a_supernet(seed: int = 0, noise: float = 0.004) -> Any:
    """The truth, with cells that cooperate in the supernet alone, and the noise of a small validation set."""
    rng = np.random.default_rng(seed)
    artefact = sum(rng.normal(0, 0.003, (3, 3))[EVERYTHING[:, a], EVERYTHING[:, b]] for a in range(7) for b in range(a))
    return TRUTH + artefact + rng.normal(0, noise, GRAPH.num_nodes)


def fitted(z: Any, num: int = 250) -> tuple[InheritedFit, Any]:
    index = np.random.default_rng(1).permutation(GRAPH.num_nodes)[:num]
    fit = fit_inherited(GRAPH, SUBSPACE.factor_features(), index, z[index], seed=0)
    return fit, np.setdiff1d(np.arange(GRAPH.num_nodes), index)


def test_it_ranks_the_truth_better_than_z_does() -> None:
    z = z_of_a_supernet()
    fit, others = fitted(z)
    predicted = fit.predict_subspace()
    tau_z, tau = kendall_tau(z[others], TRUTH[others]), kendall_tau(predicted[others], TRUTH[others])
    assert tau is not None
    assert tau_z is not None
    assert tau > tau_z + 0.1
    assert fit.report["interaction_share"] > 0.05, "it has seen that z is not additive"


def test_a_quarter_of_the_interactions_is_kept_and_less_of_noisy_labels() -> None:
    clean, noisy = (
        fitted(z_of_a_supernet() + np.random.default_rng(5).normal(0, sd, GRAPH.num_nodes)) for sd in (0, 0.03)
    )
    assert 0.15 < clean[0].report["interactions_kept"] < INTERACTION_SHARE
    assert 0.0 < noisy[0].report["interactions_kept"] < 0.5 * INTERACTION_SHARE


def test_artefacts_are_not_kept_because_labels_are_free_of_noise() -> None:
    """A supernet that is evaluated on many images holds its artefacts all the same, only better known."""
    assert fitted(z_of_a_supernet(noise=0.0))[0].report["interactions_kept"] <= INTERACTION_SHARE


def test_two_choices_that_break_networks_together_are_kept_whole() -> None:
    breaks = (EVERYTHING[:, 1] == 2) & (EVERYTHING[:, 5] == 0)
    truth = np.where(breaks, 0.1, TRUTH)
    fit, others = fitted(truth + np.random.default_rng(0).normal(0, 0.002, GRAPH.num_nodes))
    assert fit.report["interactions_kept"] > 0.95
    tau = kendall_tau(fit.predict_subspace()[others], truth[others])
    assert tau is not None
    assert tau > 0.8


def test_a_few_broken_evaluations_hardly_change_the_ranking() -> None:
    z = z_of_a_supernet()
    clean, others = fitted(z)
    spoilt = z.copy()
    spoilt[np.setdiff1d(np.arange(GRAPH.num_nodes), others)[::50]] = 0.1
    fit, _ = fitted(spoilt)
    assert fit.report["num_outlying"] >= 5
    tau = kendall_tau(fit.predict_subspace()[others], TRUTH[others])
    before = kendall_tau(clean.predict_subspace()[others], TRUTH[others])
    assert tau is not None
    assert before is not None
    assert tau > before - 0.03


def test_its_intervals_cover_new_z() -> None:
    z = z_of_a_supernet()
    fit, others = fitted(z)
    lower, upper = fit.interval.bounds(fit.predict_subspace()[others])
    assert ((z[others] >= lower) & (z[others] <= upper)).mean() == pytest.approx(0.9, abs=0.05)


def test_the_whole_subspace_and_single_nodes_agree_byte_for_byte() -> None:
    z = z_of_a_supernet()
    first, second = fitted(z, 60)[0], fitted(z, 60)[0]
    assert first.predict_subspace().tobytes() == second.predict_subspace().tobytes()
    assert first.report == second.report
    assert first.predict(EVERYTHING).astype(np.float32) == pytest.approx(first.predict_subspace(), rel=1e-6)


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [([0.5] * 9, "at least 10 pairs"), ([50.0] * 10, "divide percents"), ([float("nan")] * 10, "divide percents")],
)
def test_what_it_cannot_fit(accuracy: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_inherited(GRAPH, SUBSPACE.factor_features(), np.arange(len(accuracy)), np.array(accuracy), seed=0)
    with pytest.raises(ValueError, match="one accuracy per node"):
        fit_inherited(GRAPH, SUBSPACE.factor_features(), np.arange(3), np.array(accuracy), seed=0)


def test_equal_accuracies_are_no_accident() -> None:
    fit = fit_inherited(GRAPH, SUBSPACE.factor_features(), np.arange(20), np.full(20, 0.5), seed=0)
    assert fit.predict_subspace() == pytest.approx(np.full(GRAPH.num_nodes, 0.5))


def test_of_duplicates_the_mean_counts() -> None:
    z = z_of_a_supernet()
    index = np.random.default_rng(1).permutation(GRAPH.num_nodes)[:60]
    twice, accuracy = np.repeat(index, 2), np.repeat(z[index], 2) + np.tile([0.001, -0.001], 60)
    once = fit_inherited(GRAPH, SUBSPACE.factor_features(), np.sort(index), z[np.sort(index)], seed=0)
    fit = fit_inherited(GRAPH, SUBSPACE.factor_features(), twice, accuracy, seed=0)
    assert fit.report["num_pairs"] == 60
    assert fit.predict_subspace() == pytest.approx(once.predict_subspace(), abs=1e-4)


def test_few_distinct_pairs_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 10 pairs"):
        fit_inherited(GRAPH, SUBSPACE.factor_features(), np.arange(12) % 6, np.full(12, 0.5), seed=0)
