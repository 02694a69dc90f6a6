"""A fitted network asked without torch gives what it gives with torch."""

import numpy as np
import pytest
import torch

from app.domain.gray_code import bit_tables, num_bits, placed_bit_tables
from app.domain.hamming_graph import FactorFeatures, HammingGraph
from app.domain.search_space import preset
from app.domain.whole_space.hamming_gcn import HammingGCN
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_nodes


@pytest.mark.parametrize("name", ["fairnas", "nas-bench-macro"])
def test_predictions_equal_torchs(name):
    space = preset(name)
    tables = bit_tables(space)
    graph = HammingGraph.assigned(tuple(map(len, tables)))
    rng = np.random.default_rng(0)
    index_N = np.unique(rng.integers(0, graph.num_nodes, 60))
    accuracy_N = 0.7 + 0.01 * rng.normal(size=len(index_N)) + 0.005 * graph.choices(index_N).sum(1)
    config = GCNTrainingConfig(hidden_sizes=(24, 16), epochs=30)
    features = FactorFeatures(np.zeros(num_bits(space), dtype=np.float32), placed_bit_tables(space))
    fit = fit_gcn(graph, features, index_N, accuracy_N, config, seed=1, device=torch.device("cpu"))

    state = {key: value.numpy() for key, value in fit.module.state_dict().items()}
    own = HammingGCN.from_bytes(HammingGCN.from_state_dict(tables, state).to_bytes())

    asked_N = rng.integers(0, graph.num_nodes, 300)
    expected_N = predict_nodes(fit, asked_N)
    assert np.ptp(expected_N) > 1e-3
    np.testing.assert_allclose(own.predict(graph.choices(asked_N)), expected_N, rtol=0, atol=1e-5)
