"""The blend: as good as its best part, in either direction, with intervals, the same every time."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from app.domain.whole_space.additive_ridge import fit_additive
from worker.nas.auto_predictor import AutoFit, blend_weights, fit_auto, prior_weights
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_subspace

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(6)))
FEATURES = SUBSPACE.factor_features()
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)
EVERYTHING = GRAPH.choices(np.arange(GRAPH.num_nodes))
CONFIG = GCNTrainingConfig(hidden_sizes=(32, 32), epochs=150)


def truth(interacting: bool) -> Any:
    """Saturating accuracies, with or without interactions of every two cells."""
    rng = np.random.default_rng(5)
    score = (EVERYTHING * rng.uniform(0.3, 1.5, 6)).sum(1)
    if interacting:
        for a in range(6):
            for b in range(a):
                score = score + rng.normal(0, 0.9, (3, 3))[EVERYTHING[:, a], EVERYTHING[:, b]]
    return 0.9 - 0.05 * np.exp(-(score - score.mean()) / score.std())


def sampled(interacting: bool, noise: float, num: int = 120) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    index = rng.permutation(GRAPH.num_nodes)[:num]
    noisy = np.clip(truth(interacting) + noise * rng.normal(size=GRAPH.num_nodes), 0, 1)
    return index, noisy[index], np.setdiff1d(np.arange(GRAPH.num_nodes), index)


@pytest.mark.parametrize(("interacting", "noise"), [(False, 0.03), (True, 0.0)])
def test_it_is_at_least_as_good_as_ridge_and_the_papers_gcn(interacting: bool, noise: float) -> None:
    index, accuracy, others = sampled(interacting, noise)
    auto = fit_auto(GRAPH, FEATURES, index, accuracy, CONFIG, seed=0).predict_subspace()
    ridge = fit_additive(GRAPH.factor_sizes, EVERYTHING[index], accuracy).function.whole_space()
    paper = predict_subspace(fit_gcn(GRAPH, FEATURES, index, accuracy, CONFIG, seed=0))
    tau, *taus = (kendall_tau(one[others], truth(interacting)[others]) or 0.0 for one in (auto, ridge, paper))
    assert tau > max(taus) - 0.005


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    index, accuracy, _ = sampled(True, 0.005)
    return fit_auto(GRAPH, FEATURES, index, accuracy, CONFIG, seed=3)


def test_lists_of_nodes_are_predicted_as_the_subspace_is(fit: AutoFit) -> None:
    nodes = np.array([5, 700, 0, 5])
    assert fit.predict(nodes) == pytest.approx(fit.predict_subspace()[nodes], abs=1e-5)


def test_the_same_seed_gives_the_same_bytes(fit: AutoFit) -> None:
    index, accuracy, _ = sampled(True, 0.005)
    again = fit_auto(GRAPH, FEATURES, index, accuracy, CONFIG, seed=3)
    assert again.predict_subspace().tobytes() == fit.predict_subspace().tobytes()
    assert again.report == fit.report


def test_progress_goes_from_start_to_end() -> None:
    seen: list[float] = []
    index, accuracy, _ = sampled(False, 0.01, num=30)
    fitted = fit_auto(
        GRAPH,
        FEATURES,
        index,
        accuracy,
        GCNTrainingConfig((4, 4), 8),
        seed=0,
        on_progress=lambda fraction, _details: seen.append(fraction),
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    nodes: list[tuple[int, int]] = []
    fitted.predict_subspace(lambda done, total: nodes.append((done, total)))
    assert nodes[-1][0] == nodes[-1][1] == GRAPH.num_nodes * (len(fitted.gcns.members) + 1)
    assert nodes == sorted(nodes)


def test_noise_leaves_the_weights_at_their_prior_and_clean_labels_decide() -> None:
    rng = np.random.default_rng(0)
    signal, interactions = rng.normal(size=400), 0.5 * rng.normal(size=400)
    parts = np.stack([signal, signal, interactions, signal, interactions])
    clean = blend_weights(parts, signal + interactions, noise_share=0.0)
    assert clean[2] + clean[4] == pytest.approx(1.0, abs=0.05)
    noisy = blend_weights(parts[:, :30], signal[:30] + 20 * rng.normal(size=30), noise_share=0.5)
    assert noisy == pytest.approx(prior_weights(0.5), abs=0.12)


def test_the_noisier_the_labels_the_nearer_the_weights_stay_to_their_prior() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(5, 200))
    target = parts.T @ [0.2, 0.3, 0.3, 0.3, 0.3] + rng.normal(size=200)
    near, middle, far = (
        np.abs(blend_weights(parts, target, share) - prior_weights(share)).sum() for share in (0.9, 0.5, 0.0)
    )
    assert near < middle < far


def test_noise_takes_the_prior_from_the_gcn_and_from_ranks() -> None:
    assert prior_weights(0.0) == pytest.approx([0.0, 0.7, 0.0, 0.3, 0.0])
    assert prior_weights(1.0) == pytest.approx([0.5, 0.5, 0.0, 0.0, 0.0])
    assert prior_weights(0.6).sum() == pytest.approx(1.0)
