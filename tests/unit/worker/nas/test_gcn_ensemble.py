"""Early-stopped GCNs: every pair is left out once, and predicted by the member that has not seen it."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.gcn_ensemble import NUM_MEMBERS, GCNEnsemble, fit_gcn_ensemble
from worker.nas.gcn_prediction import predict_nodes
from worker.nas.gcn_training import GCNTrainingConfig

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


def test_each_pair_is_predicted_by_one_member(ensemble: GCNEnsemble) -> None:
    index, _ = pairs()
    left_out = ensemble.left_out_additive_N + ensemble.left_out_interaction_N
    by_member = np.stack([predict_nodes(member.fit, index) for member in ensemble.members])
    matches = np.abs(by_member - left_out) < 1e-6
    assert (matches.sum(0) >= 1).all()
    assert matches.sum(1).tolist() == [len(index) // NUM_MEMBERS] * NUM_MEMBERS


def test_members_stop_before_they_learn_the_noise(ensemble: GCNEnsemble) -> None:
    assert min(member.stopped_epoch for member in ensemble.members) < CONFIG.epochs // 2
    _, accuracy = pairs()
    error = ensemble.left_out_additive_N + ensemble.left_out_interaction_N - accuracy
    assert np.abs(error).mean() < 0.035


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
