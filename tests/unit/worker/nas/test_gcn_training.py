"""Fitting: it converges, ranks unseen architectures, repeats itself, can be cancelled, and refuses what cannot work."""

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from app.domain.hamming_graph import FactorFeatures, HammingGraph
from worker.nas.gcn import ReferenceGCN, explicit_graph
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_nodes, predict_subspace
from worker.nas.similarity import measured_similarity

SIZES = (6,) * 4
GRAY = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=np.float32)
SMALL = GCNTrainingConfig(hidden_sizes=(32, 32), epochs=120)


def gray_features():
    tables = []
    for factor in range(len(SIZES)):
        table = np.zeros((6, 15), dtype=np.float32)
        table[:, 3 * factor : 3 * factor + 3] = GRAY
        tables.append(table)
    constant = np.zeros(15, dtype=np.float32)
    constant[12:] = [0, 1, 1]
    return FactorFeatures(constant, tuple(tables))


def realistic_accuracies(graph, noise=0.003, seed=0):
    """Larger kernels and expansions help, more so early; a spread of a few points around 0.6, and noise."""
    rng = np.random.default_rng(seed)
    choices = graph.choices(np.arange(graph.num_nodes))
    kernel, expansion = choices % 3, choices // 3
    truth = 0.6 + (rng.uniform(0.002, 0.006, 4) * kernel + rng.uniform(0.004, 0.012, 4) * expansion).sum(1)
    return truth, truth + rng.normal(0, noise, graph.num_nodes)


def pairs(graph, count=300, seed=0):
    truth, sampled = realistic_accuracies(graph)
    index = np.random.default_rng(seed).choice(graph.num_nodes, count, replace=False)
    return truth, index, sampled[index]


@pytest.mark.parametrize("similarity", ["assigned", "measured"])
def test_ranks_architectures_it_has_not_seen(similarity):
    graph = HammingGraph.assigned(SIZES)
    truth, index, sampled = pairs(graph)
    if similarity == "measured":
        graph = measured_similarity(graph, index, sampled)
    fit = fit_gcn(graph, gray_features(), index, sampled, SMALL, seed=1)
    unseen = np.setdiff1d(np.arange(graph.num_nodes), index)
    assert fit.loss_curve.shape == (120,)
    assert fit.loss_curve[-1] < 0.5 * fit.loss_curve[0]
    assert kendalltau(predict_subspace(fit)[unseen], truth[unseen]).statistic > 0.8


def test_first_epochs_are_those_of_a_pyg_training_loop():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    _, index, sampled = pairs(graph)
    config = GCNTrainingConfig(hidden_sizes=(16, 16), epochs=8)
    start = fit_gcn(graph, features, index, sampled, GCNTrainingConfig((16, 16), 1, learning_rate=1e-30), seed=5)
    reference = ReferenceGCN(features.num_bits, (16, 16))
    reference.load_state_dict({name: value.clone() for name, value in start.module.state_dict().items()})
    data = explicit_graph(graph, features)
    target = torch.as_tensor(sampled, dtype=torch.float32)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 6], 0.1)
    expected = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (reference(data.x, data.edge_index, data.edge_weight)[index] - target).abs().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        expected.append(loss.item())
    fit = fit_gcn(graph, features, index, sampled, config, seed=5)
    np.testing.assert_allclose(fit.loss_curve, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("threshold", [1, 2])
def test_the_same_seed_gives_the_same_bytes(threshold):
    graph, features = HammingGraph.assigned(SIZES, hamming_threshold=threshold), gray_features()
    _, index, sampled = pairs(graph, 50)
    config = GCNTrainingConfig(hidden_sizes=(16, 8), epochs=5)
    tables = [predict_subspace(fit_gcn(graph, features, index, sampled, config, seed)) for seed in (1, 1, 2)]
    assert tables[0].tobytes() == tables[1].tobytes()
    assert tables[0].tobytes() != tables[2].tobytes()


def test_global_randomness_is_neither_used_nor_changed():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    _, index, sampled = pairs(graph, 50)
    config = GCNTrainingConfig(hidden_sizes=(8, 8), epochs=2)
    before = fit_gcn(graph, features, index, sampled, config, seed=1)
    torch.rand(3)
    after = fit_gcn(graph, features, index, sampled, config, seed=1)
    for name, value in before.module.state_dict().items():
        torch.testing.assert_close(after.module.state_dict()[name], value, rtol=0, atol=0)


def test_the_whole_space_can_be_fitted():
    sizes = (6,) * 19
    tables = []
    for factor in range(19):
        table = np.zeros((6, 57), dtype=np.float32)
        table[:, 3 * factor : 3 * factor + 3] = GRAY
        tables.append(table)
    features = FactorFeatures(np.zeros(57, dtype=np.float32), tuple(tables))
    graph = HammingGraph.assigned(sizes)
    index = np.random.default_rng(0).integers(0, graph.num_nodes, 120)
    accuracy = 0.6 + 0.002 * graph.choices(index).sum(1) / 19
    fit = fit_gcn(graph, features, index, accuracy, GCNTrainingConfig((8, 8), epochs=3), seed=0)
    assert np.isfinite(predict_nodes(fit, index)).all()


def test_progress_is_reported_and_may_cancel():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    _, index, sampled = pairs(graph, 30)
    seen = []

    def stop_at_three(epoch, loss):
        seen.append((epoch, loss))
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_gcn(graph, features, index, sampled, SMALL, seed=0, on_epoch=stop_at_three)
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert all(np.isfinite(loss) for _, loss in seen)


def test_a_network_that_ranks_nothing_is_refused():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    _, index, sampled = pairs(graph, 60)
    config = GCNTrainingConfig(hidden_sizes=(16, 1), epochs=20, learning_rate=0.5, weight_decay=0.0)
    refused = []
    for seed in range(5):
        try:
            assert np.ptp(predict_nodes(fit_gcn(graph, features, index, sampled, config, seed), index)) > 0
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert all("the same accuracy for every architecture" in reason for reason in refused)


def test_a_diverging_fit_is_refused():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    _, index, sampled = pairs(graph, 60)
    with pytest.raises(ValueError, match="diverged"):
        fit_gcn(graph, features, index, sampled, GCNTrainingConfig((8, 8), epochs=5, learning_rate=1e30), seed=0)


def test_equal_accuracies_are_fitted_by_their_value():
    graph, features = HammingGraph.assigned(SIZES), gray_features()
    index = np.arange(0, graph.num_nodes, 20)
    config = GCNTrainingConfig(hidden_sizes=(8, 8), epochs=100)
    fit = fit_gcn(graph, features, index, np.full(len(index), 0.1), config, seed=0)
    np.testing.assert_allclose(predict_nodes(fit, index), 0.1, atol=0.02)


def test_learning_rate_is_divided_at_half_and_three_quarters():
    config = GCNTrainingConfig()
    rates = [config.learning_rate_at(epoch) for epoch in (0, 299, 300, 449, 450, 599)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_sizes": (512, 0)}, "hidden size must be at least 1"),
        ({"hidden_sizes": ()}, "one or two"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"milestones": (0.5, 1.5)}, "milestones"),
        ({"decay": 1.5}, "decay"),
    ],
)
def test_unusable_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        GCNTrainingConfig(**values)


@pytest.mark.parametrize(
    ("index", "accuracy", "message"),
    [
        ([3], [0.5], "at least 2 pairs"),
        ([3, 4], [0.5], "one accuracy per node"),
        ([3, 4], [0.5, float("nan")], "1 of 2 accuracies are not finite"),
        ([3, 1296], [0.5, 0.6], "from 0 to 1295"),
    ],
)
def test_unusable_pairs(index, accuracy, message):
    with pytest.raises(ValueError, match=message):
        fit_gcn(HammingGraph.assigned(SIZES), gray_features(), np.array(index), np.array(accuracy), SMALL, seed=0)
