"""Step 0: it learns, trains only the sampled path, and resumes to the same bits from wherever it was stopped."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from app.domain.search_space import Head
from app.domain.seeds import derive_seed
from tests.unit.worker.nas.tiny_training import CPU, TINY_SPACE, StoppedError, same, stop_at
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.single_path import fair_paths, initial_supernet, learning_rate_at, sampled_path
from worker.nas.supernet_training import (
    SupernetTrainingConfig,
    TrainingDivergedError,
    TrainingProgress,
    load_supernet,
    train_supernet,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = SupernetTrainingConfig(epochs=3, batch_size=50, learning_rate=0.1, augmentation="crop")


def store(tmp_path, name="search"):
    return CheckpointStore(str(tmp_path), name)


def train(checkpoints, data, config=CONFIG, seed=0, space=TINY_SPACE, on_progress=None):
    return train_supernet(space, data, config, seed=seed, device=CPU, checkpoints=checkpoints, on_progress=on_progress)


def weights(checkpoints):
    return checkpoints.load_tensors("supernet").tensors


def test_it_learns(tmp_path, data):
    config = dataclasses.replace(CONFIG, epochs=25, batch_size=20, augmentation="none")
    report = train(store(tmp_path), data, config)
    assert len(report.results) == 25
    assert report.results[0].loss > report.results[-1].loss
    assert report.results[-1].accuracy > 0.5
    assert report.num_images == 25 * 260
    assert report.images_per_s > 0
    assert 0 < report.input_share < 0.5


PLAIN = SupernetTrainingConfig(epochs=2, batch_size=64, learning_rate=0.05, augmentation="none", label_smoothing=0.1)
FAIR = dataclasses.replace(PLAIN, learning_rate=0.02, label_smoothing=0.0, fairness="strict")


@pytest.mark.parametrize(
    ("config", "paths_of", "loss_atol", "weight_atol"),
    [
        (PLAIN, lambda *at: (sampled_path(*at),), 1e-4, 1e-3),
        # FairNAS: the gradients of paths that hold every choice add up, which is steeper and so less well conditioned
        (FAIR, fair_paths, 1e-3, 5e-3),
    ],
    ids=["uniform", "strict"],
)
def test_the_loop_is_plain_sgd_on_the_sampled_paths(tmp_path, data, config, paths_of, loss_atol, weight_atol):
    """The same training written the obvious way: nn.Conv2d, NCHW, torch's SGD over all parameters."""
    space = TINY_SPACE.model_copy(update={"head": Head(out_channels=32, dropout=0.0)})
    report = train(store(tmp_path), data, config, space=space)
    network = initial_supernet(space, config, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=0.9, weight_decay=4e-5)
    iterations = len(data.train_labels_N) // 64
    losses = []
    for epoch in range(2):
        order = torch.Generator().manual_seed(derive_seed(0, None, f"order {epoch}"))
        order_N = torch.randperm(len(data.train_labels_N), generator=order)
        for iteration in range(iterations):
            index_N = order_N[64 * iteration : 64 * iteration + 64]
            optimizer.param_groups[0]["lr"] = learning_rate_at(config, epoch * iterations + iteration, 2 * iterations)
            optimizer.zero_grad(set_to_none=True)
            images = data.normalise(data.train_images_NCHW[index_N]).contiguous()
            for path in paths_of(TINY_SPACE, 0, epoch, iteration):
                logits = network(images, path)
                loss = F.cross_entropy(logits, data.train_labels_N[index_N], label_smoothing=config.label_smoothing)
                loss.backward()
                losses.append(loss.item())
            optimizer.step()
    found = [result.loss for result in report.results]
    assert np.allclose(found, np.reshape(losses, (2, -1)).mean(1), atol=loss_atol)
    trained = weights(store(tmp_path))
    for name, tensor in network.state_dict().items():
        assert torch.allclose(trained[name], tensor, atol=weight_atol), name


@pytest.mark.parametrize("step", [0, 3, 5, 7, 12, 14])
def test_stopped_anywhere_it_resumes_to_the_same_bits(tmp_path, data, monkeypatch, step):
    undisturbed, stopped = store(tmp_path, "undisturbed"), store(tmp_path, "stopped")
    expected = train(undisturbed, data)
    with pytest.raises(StoppedError):
        train(stopped, data, on_progress=stop_at(step, monkeypatch))
    assert not stopped.exists("supernet")
    report = train(stopped, data)
    assert report.first_epoch == step // 5
    assert report.results == expected.results
    assert same(weights(stopped), weights(undisturbed))


def test_a_damaged_checkpoint_costs_one_epoch_and_not_the_training(tmp_path, data, monkeypatch):
    undisturbed, damaged = store(tmp_path, "undisturbed"), store(tmp_path, "damaged")
    train(undisturbed, data)
    with pytest.raises(StoppedError):
        train(damaged, data, on_progress=stop_at(12, monkeypatch))
    assert damaged.names() == ("training-000001", "training-000002")
    path = tmp_path / "damaged" / "training-000002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    report = train(damaged, data)
    assert report.first_epoch == 1
    assert len(report.warnings) == 1
    assert "training-000002" in report.warnings[0]
    assert same(weights(damaged), weights(undisturbed))


def test_when_no_checkpoint_can_be_read_it_says_so_and_does_not_start_again(tmp_path, data, monkeypatch):
    checkpoints = store(tmp_path)
    with pytest.raises(StoppedError):
        train(checkpoints, data, on_progress=stop_at(12, monkeypatch))
    for path in (tmp_path / "search").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint of this training can be read"):
        train(checkpoints, data)


def test_a_finished_training_is_not_done_again(tmp_path, data):
    checkpoints = store(tmp_path)
    first = train(checkpoints, data)
    assert checkpoints.names() == ("supernet",)
    again = train(checkpoints, data)
    assert again.results == first.results
    assert again.num_images == 0


@pytest.mark.parametrize("finished", [True, False])
def test_another_trainings_checkpoint_is_refused(tmp_path, data, monkeypatch, finished):
    checkpoints = store(tmp_path)
    if finished:
        train(checkpoints, data)
    else:
        with pytest.raises(StoppedError):
            train(checkpoints, data, on_progress=stop_at(6, monkeypatch))
    before = checkpoints.names()
    other_space = TINY_SPACE.model_copy(update={"head": Head(out_channels=40)})
    shifted = dataclasses.replace(data, mean_C=data.mean_C + 0.01)
    for changes in (
        {"seed": 1},
        {"config": dataclasses.replace(CONFIG, learning_rate=0.11)},
        {"space": other_space},
        {"data": shifted},
    ):
        with pytest.raises(CheckpointError, match="another search space, data set, configuration or seed"):
            train(checkpoints, **{"data": data, **changes})
    assert checkpoints.names() == before


def test_the_seed_decides_the_weights(tmp_path, data):
    stores = [store(tmp_path, name) for name in "abc"]
    for checkpoints, seed in zip(stores, (0, 0, 1), strict=True):
        train(checkpoints, data, seed=seed)
    first, again, other = map(weights, stores)
    assert same(first, again)
    assert not same(first, other)


def test_blocks_that_were_never_sampled_keep_their_weights(tmp_path, data):
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=270)
    train(store(tmp_path), data, config)
    path = sampled_path(TINY_SPACE, 0, 0, 0)
    start = initial_supernet(TINY_SPACE, config, seed=0).state_dict()
    trained = weights(store(tmp_path))
    for name, tensor in start.items():
        if not name.startswith("cells."):
            continue
        cell_index, choice = map(int, name.split(".")[1:3])
        if choice != path[cell_index]:
            assert torch.equal(trained[name], tensor), name
        elif name.endswith("conv.weight"):
            assert not torch.equal(trained[name], tensor), name


def test_clipped_gradients_cannot_move_weights_further_than_the_rate_allows(tmp_path, data):
    config = dataclasses.replace(
        CONFIG, epochs=1, batch_size=270, learning_rate=0.5, weight_decay=0.0, max_gradient_norm=1e-3
    )
    train(store(tmp_path), data, config)
    start = initial_supernet(TINY_SPACE, config, seed=0)
    trained = weights(store(tmp_path))
    moved = sum(
        float((trained[name] - parameter.detach()).square().sum()) for name, parameter in start.named_parameters()
    )
    assert math.sqrt(moved) == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_divergence_says_what_to_do_and_leaves_no_supernet(tmp_path, data):
    checkpoints = store(tmp_path)
    with pytest.raises(TrainingDivergedError, match="lower the learning rate"):
        train(checkpoints, data, dataclasses.replace(CONFIG, learning_rate=1e30))
    assert not checkpoints.exists("supernet")


def test_progress_is_monotone_and_complete(tmp_path, data, monkeypatch):
    monkeypatch.setattr("worker.nas.training_loop._PROGRESS_INTERVAL_S", 0.0)
    seen: list[TrainingProgress] = []
    train(store(tmp_path), data, on_progress=seen.append)
    assert [(p.epoch, p.iteration) for p in seen] == [(epoch, i + 1) for epoch in range(3) for i in range(5)]
    assert [p.fraction for p in seen] == [(i + 1) / 15 for i in range(15)]
    assert all(math.isfinite(p.loss) for p in seen)


def test_progress_tells_the_curve_so_far_also_after_an_interruption(tmp_path, data, monkeypatch):
    checkpoints = store(tmp_path)
    with pytest.raises(StoppedError):
        train(checkpoints, data, on_progress=stop_at(12, monkeypatch))
    seen: list[TrainingProgress] = []
    results = train(checkpoints, data, on_progress=seen.append).results
    curve = [(epoch, round(result.loss, 5), round(result.accuracy, 5)) for epoch, result in enumerate(results, start=1)]
    assert list(seen[-1].curve) == curve[:-1]


def test_a_batch_larger_than_the_data_is_the_data(tmp_path, data):
    report = train(store(tmp_path), data, dataclasses.replace(CONFIG, epochs=1, batch_size=1024))
    assert report.num_images == len(data.train_labels_N)


def test_the_trained_supernet_can_be_loaded(tmp_path, data):
    checkpoints = store(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint 'supernet'"):
        load_supernet(TINY_SPACE, checkpoints, CPU)
    train(checkpoints, data)
    network = load_supernet(TINY_SPACE, checkpoints, CPU)
    assert not network.training
    assert same(network.state_dict(), weights(checkpoints))
    with pytest.raises(CheckpointError, match="not one of the space"):
        load_supernet(TINY_SPACE.model_copy(update={"head": Head(out_channels=40)}), checkpoints, CPU)


def test_space_and_data_must_fit(tmp_path, data):
    with pytest.raises(ValueError, match="the space wants"):
        train(store(tmp_path), data, space=TINY_SPACE.model_copy(update={"input_resolution": 16}))
