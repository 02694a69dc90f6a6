"""Stand-alone training: it learns, resumes to the same bits, and hands out what it measured."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from app.domain.search_space import Head
from app.domain.seeds import derive_seed
from app.domain.standalone_recipe import StandaloneRecipe, from_recipe
from tests.unit.worker.nas.tiny_training import CPU, TINY_SPACE, StoppedError, same, stop_at
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.standalone_training import STANDALONE, learning_rate_at, load_standalone, train_standalone
from worker.nas.subnetwork import fresh_subnetwork, num_correct
from worker.nas.training_config import TrainingDivergedError

pytestmark = pytest.mark.usefixtures("one_thread")

M = (1, 0)
SMALL = from_recipe("small", {"epochs": 3, "batch_size": 50, "augmentation": "crop", "ema_decay": 0.9})
PAPER = from_recipe("paper", {"epochs": 3, "batch_size": 50, "augmentation": "crop", "ema_decay": 0.9})


def store(tmp_path, name="job"):
    return CheckpointStore(str(tmp_path), name)


def train(checkpoints, data, recipe=SMALL, seed=0, architecture=M, inherited=None, on_progress=None):
    return train_standalone(
        TINY_SPACE,
        architecture,
        data,
        recipe,
        seed=seed,
        device=CPU,
        checkpoints=checkpoints,
        inherited=inherited,
        on_progress=on_progress,
    )


@pytest.mark.parametrize("name", ["small", "paper"])
def test_it_learns(tmp_path, data, name):
    rate = {} if name == "small" else {"learning_rate": 0.01, "ema_decay": 0.99}
    recipe = from_recipe(name, {"epochs": 30, "batch_size": 20, "augmentation": "none", **rate})
    result = train(store(tmp_path), data, recipe)
    assert result.accuracy > 0.8
    assert result.report.results[-1].loss < result.report.results[0].loss
    assert result.report.num_images == 30 * 260
    assert not result.network.training


def test_the_accuracy_is_that_of_the_saved_weights(tmp_path, data):
    checkpoints = store(tmp_path)
    result = train(checkpoints, data)
    assert checkpoints.names() == (STANDALONE,)
    loaded = load_standalone(TINY_SPACE, M, checkpoints)
    assert same(loaded.state_dict(), result.network.state_dict())
    assert result.accuracy == num_correct(loaded, data) / len(data.validation_labels_N)


def test_the_loop_is_plain_sgd_on_the_whole_network(tmp_path, data):
    """The same training written the obvious way: nn.Conv2d, NCHW, torch's own SGD."""
    recipe = StandaloneRecipe(
        epochs=2,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.05,
        schedule="cosine",
        warmup_epochs=0,
        dropout=0.0,
        label_smoothing=0.1,
        ema_decay=0.0,
        augmentation="none",
    )
    result = train(store(tmp_path), data, recipe)
    start = torch.Generator().manual_seed(derive_seed(0, None, "standalone weights"))
    network = fresh_subnetwork(TINY_SPACE.model_copy(update={"head": Head(out_channels=32)}), M, start).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-5)
    iterations = len(data.train_labels_N) // 64
    for epoch in range(2):
        order = torch.Generator().manual_seed(derive_seed(0, None, f"order {epoch}"))
        order_N = torch.randperm(len(data.train_labels_N), generator=order)
        for iteration in range(iterations):
            index_N = order_N[64 * iteration : 64 * iteration + 64]
            step = epoch * iterations + iteration
            optimizer.param_groups[0]["lr"] = 0.025 * (1 + math.cos(math.pi * step / (2 * iterations)))
            optimizer.zero_grad(set_to_none=True)
            logits = network(data.normalise(data.train_images_NCHW[index_N]).contiguous())
            F.cross_entropy(logits, data.train_labels_N[index_N], label_smoothing=0.1).backward()
            optimizer.step()
    trained = result.network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.allclose(trained[name], tensor, atol=1e-3), name


@pytest.mark.parametrize("recipe", [SMALL, PAPER], ids=["small", "paper"])
@pytest.mark.parametrize("step", [3, 5, 12])
def test_stopped_anywhere_it_resumes_to_the_same_bits(tmp_path, data, monkeypatch, step, recipe):
    expected = train(store(tmp_path, "undisturbed"), data, recipe)
    stopped = store(tmp_path, "stopped")
    with pytest.raises(StoppedError):
        train(stopped, data, recipe, on_progress=stop_at(step, monkeypatch))
    assert not stopped.exists(STANDALONE)
    result = train(stopped, data, recipe)
    assert result.report.first_epoch == step // 5
    assert result.report.results == expected.report.results
    assert result.accuracy == expected.accuracy
    assert same(result.network.state_dict(), expected.network.state_dict())


def test_a_finished_training_is_judged_again_but_not_done_again(tmp_path, data):
    first = train(store(tmp_path), data)
    again = train(store(tmp_path), data)
    assert (again.accuracy, again.report.results, again.report.num_images) == (first.accuracy, first.report.results, 0)


def test_inherited_weights_are_where_it_begins(tmp_path, data):
    trained = train(store(tmp_path, "first"), data).network.state_dict()
    recipe = SMALL.model_copy(update={"learning_rate": 1e-12, "ema_decay": 0.0, "weight_decay": 0.0})
    tuned = train(store(tmp_path, "second"), data, recipe, inherited=trained).network
    for name, parameter in tuned.named_parameters():
        assert torch.allclose(parameter, trained[name], atol=1e-6), name


def test_a_worker_whose_sums_are_rounded_otherwise_takes_over(tmp_path, data, monkeypatch):
    """BN statistics of inherited sub-networks differ in their last digits by the number of threads."""
    inherited = train(store(tmp_path, "first"), data).network.state_dict()
    elsewhere = {k: v * (1 + 1e-7) if k.endswith(("_mean", "_var")) else v for k, v in inherited.items()}
    checkpoints = store(tmp_path, "second")
    with pytest.raises(StoppedError):
        train(checkpoints, data, inherited=inherited, on_progress=stop_at(6, monkeypatch))
    assert len(train(checkpoints, data, inherited=elsewhere).report.results) == SMALL.epochs


def test_the_average_lags_behind_the_weights(tmp_path, data):
    averaged = train(store(tmp_path, "averaged"), data).network.state_dict()
    plain = train(store(tmp_path, "plain"), data, SMALL.model_copy(update={"ema_decay": 0.0})).network.state_dict()
    assert not torch.equal(averaged["stem.0.conv.weight"], plain["stem.0.conv.weight"])
    assert torch.allclose(averaged["stem.0.conv.weight"], plain["stem.0.conv.weight"], atol=0.3)


@pytest.mark.parametrize("finished", [True, False])
def test_another_trainings_checkpoint_is_refused(tmp_path, data, monkeypatch, finished):
    checkpoints = store(tmp_path)
    if finished:
        start = train(checkpoints, data).network.state_dict()
    else:
        start = train(store(tmp_path, "other"), data).network.state_dict()
        with pytest.raises(StoppedError):
            train(checkpoints, data, on_progress=stop_at(6, monkeypatch))
    for changes in (
        {"seed": 1},
        {"architecture": (0, 0)},
        {"recipe": SMALL.model_copy(update={"dropout": 0.1})},
        {"inherited": start},
        {"data": dataclasses.replace(data, mean_C=data.mean_C + 0.01)},
    ):
        with pytest.raises(CheckpointError, match="trained with another"):
            train(checkpoints, **{"data": data, **changes})


def test_rates_of_the_papers_schedule():
    recipe = from_recipe("paper", {})
    assert learning_rate_at(recipe, 2.5) == pytest.approx(0.064)
    assert learning_rate_at(recipe, 5.9) == pytest.approx(0.128 * 0.963)
    assert learning_rate_at(recipe, 6.0) == pytest.approx(0.128 * 0.963**2)
    assert learning_rate_at(recipe, 349.9) == pytest.approx(0.128 * 0.963**116)


def test_rates_of_the_small_schedule():
    recipe = from_recipe("small", {"epochs": 10, "warmup_epochs": 2, "learning_rate": 0.1})
    rates = [learning_rate_at(recipe, epoch / 10) for epoch in range(101)]
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[50] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0.0)


def test_divergence_says_what_to_do_and_leaves_no_network(tmp_path, data):
    recipe = SMALL.model_copy(update={"learning_rate": 1e30, "max_gradient_norm": None})
    with pytest.raises(TrainingDivergedError, match="lower the learning rate"):
        train(store(tmp_path), data, recipe)
    assert not store(tmp_path).exists(STANDALONE)


def test_space_and_data_must_fit(tmp_path, data):
    with pytest.raises(ValueError, match="the space wants"):
        train_standalone(
            TINY_SPACE.model_copy(update={"num_classes": 5}),
            M,
            data,
            SMALL,
            seed=0,
            device=CPU,
            checkpoints=store(tmp_path),
        )
