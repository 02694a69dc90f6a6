"""GCNs that stop early: what they learn of noise, and predictions of every pair that have not seen it."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.gcn_ensemble import NUM_LONG_MEMBERS, NUM_MEMBERS, NUM_PARTS, GCNEnsemble, fit_gcn_ensemble
from worker.nas.gcn_prediction import predict_nodes
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(6)))
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)
CONFIG = GCNTrainingConfig(hidden_sizes=(32, 32), epochs=120)


def pairs(num: int = 80, noise: float = 0.02) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    index = rng.permutation(GRAPH.num_nodes)[:num]
    return index, 0.5 + 0.03 * GRAPH.choices(index).sum(1) + noise * rng.normal(size=num)


@pytest.fixture(scope="module")
def ensemble() -> GCNEnsemble:
    return fit_gcn_ensemble(GRAPH, SUBSPACE.factor_features(), *pairs(), CONFIG, np.random.default_rng(0))


def test_members_have_seen_all_pairs_and_left_out_predictions_none(ensemble: GCNEnsemble) -> None:
    index, accuracy = pairs()
    seen = np.mean([predict_nodes(member.fit, index) for member in ensemble.members], axis=0)
    left_out = ensemble.left_out_additive_N + ensemble.left_out_interaction_N
    assert np.abs(seen - accuracy).mean() < 0.8 * np.abs(left_out - accuracy).mean()
    assert np.abs(left_out - accuracy).mean() < 0.035


def test_clean_labels_are_fitted_by_as_much_of_the_whole_schedule(ensemble: GCNEnsemble) -> None:
    stop = float(np.median(ensemble.stopped))
    assert len(ensemble.stopped) == NUM_PARTS
    assert 0.5 < stop < 1.0
    epochs = [len(member.fit.loss_curve) for member in ensemble.members]
    assert epochs == [round(stop * CONFIG.epochs)] * NUM_LONG_MEMBERS


def test_noise_is_not_learned() -> None:
    """Members stop after as many epochs as those that left pairs out, and rank better than a GCN trained to the end."""
    index, accuracy = pairs(noise=0.15)
    fitted = fit_gcn_ensemble(GRAPH, SUBSPACE.factor_features(), index, accuracy, CONFIG, np.random.default_rng(1))
    stop = float(np.median(fitted.stopped))
    assert stop <= 0.5
    epochs = [len(member.fit.loss_curve) for member in fitted.members]
    assert epochs == [round(stop * CONFIG.epochs / 2)] * NUM_MEMBERS
    others = np.setdiff1d(np.arange(GRAPH.num_nodes), index)
    truth = GRAPH.choices(others).sum(1)
    to_the_end = fit_gcn(GRAPH, SUBSPACE.factor_features(), index, accuracy, CONFIG, seed=1)
    stopped = np.mean([predict_nodes(member.fit, others) for member in fitted.members], axis=0)
    assert np.corrcoef(stopped, truth)[0, 1] > np.corrcoef(predict_nodes(to_the_end, others), truth)[0, 1] + 0.02


def test_a_left_out_prediction_does_not_depend_on_its_label(ensemble: GCNEnsemble) -> None:
    index, accuracy = pairs()
    other = accuracy.copy()
    other[0] += 0.2
    changed = fit_gcn_ensemble(GRAPH, SUBSPACE.factor_features(), index, other, CONFIG, np.random.default_rng(0))
    moved = np.abs(changed.left_out_additive_N - ensemble.left_out_additive_N)
    assert moved[0] < 0.03 < np.abs(other - accuracy)[0]


def test_pairs_of_one_node_are_left_out_together() -> None:
    index, accuracy = pairs(20)
    twice = np.concatenate([index, index])
    ensemble = fit_gcn_ensemble(
        GRAPH, SUBSPACE.factor_features(), twice, np.tile(accuracy, 2), CONFIG, np.random.default_rng(0)
    )
    first, second = np.split(ensemble.left_out_additive_N + ensemble.left_out_interaction_N, 2)
    assert first == pytest.approx(second, abs=1e-6)


def test_progress_reaches_the_end_and_can_cancel() -> None:
    seen: list[float] = []
    config = GCNTrainingConfig(hidden_sizes=(4, 4), epochs=6)
    fit_gcn_ensemble(
        GRAPH, SUBSPACE.factor_features(), *pairs(20), config, np.random.default_rng(0), on_fraction=seen.append
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)

    class StopError(Exception):
        pass

    def stop(_fraction: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        fit_gcn_ensemble(
            GRAPH, SUBSPACE.factor_features(), *pairs(20), config, np.random.default_rng(0), on_fraction=stop
        )
