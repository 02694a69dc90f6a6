"""How much of a batch trains at once: from the memory of the machine, with gradients that are the whole batch's."""

import pytest
import torch

from app.domain.search_space import preset
from app.domain.standalone_recipe import from_recipe
from tests.unit.worker.nas.tiny_training import CPU, TINY_SPACE
from worker.nas import training_memory
from worker.nas.checkpoint import CheckpointStore
from worker.nas.standalone_training import StandaloneLoop, train_standalone
from worker.nas.training_memory import activations_per_image, images_at_once

pytestmark = pytest.mark.usefixtures("one_thread")

M = (1, 0)
RECIPE = from_recipe("small", {"epochs": 1, "batch_size": 50, "dropout": 0.0, "max_gradient_norm": None})


def loop(data, at_once, recipe=RECIPE):
    return StandaloneLoop(TINY_SPACE, M, data, recipe, seed=0, digest="", inherited=None, images_at_once=at_once)


def gradients(data, at_once):
    """Of the first batch, with BN that does not see it: its statistics are the running ones."""
    training = loop(data, at_once)
    network = training.state.network.eval()
    images_NCHW, labels_N = training._batch(torch.arange(len(data.train_labels_N)), 0, 0)
    totals_2 = training._gradients(network, images_NCHW, labels_N, ())
    return totals_2, [parameter.grad for parameter in network.parameters()], training.num_parts


@pytest.mark.parametrize(("at_once", "num_parts"), [(25, 2), (16, 4), (3, 17)])
def test_the_parts_gradients_add_up_to_the_batchs(data, at_once, num_parts):
    whole_2, whole, _ = gradients(data, None)
    parts_2, parts, found = gradients(data, at_once)
    assert found == num_parts
    assert torch.allclose(parts_2, whole_2, rtol=1e-5)
    for one, other in zip(parts, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_what_fits_trains_as_one_batch_to_the_same_bits(tmp_path, data):
    reports = [
        loop(data, at_once).run(CheckpointStore(str(tmp_path), str(at_once)), None).results for at_once in (None, 50)
    ]
    assert reports[0] == reports[1]


def test_a_small_machine_takes_smaller_parts_and_a_tiny_one_says_what_would_help(tmp_path, data, monkeypatch):
    def train(name):
        return train_standalone(
            TINY_SPACE, M, data, RECIPE, seed=0, device=CPU, checkpoints=CheckpointStore(str(tmp_path), name)
        )

    assert train("large").images_at_once == 50
    per_image = 4 * activations_per_image(TINY_SPACE, M)
    taken = images_taken(data)
    monkeypatch.setattr(training_memory, "memory_at_hand", lambda _device: taken + 2 * 20 * per_image)
    first, second = train("first"), train("second")
    assert first.images_at_once == 20
    assert first.report.results == second.report.results
    assert first.accuracy == second.accuracy
    monkeypatch.setattr(training_memory, "memory_at_hand", lambda _device: taken + per_image)
    with pytest.raises(ValueError, match="lower batch_size or num_images"):
        train("tiny")


def images_taken(data):
    images = (data.train_images_NCHW, data.validation_images_NCHW, data.calibration_images_NCHW)
    weights = training_memory._meta(TINY_SPACE, M)
    return sum(part.nbytes for part in images) + 50 * 3 * 64 * 5 + 20 * sum(p.numel() for p in weights.parameters())


def test_what_is_kept_grows_with_the_network():
    space = preset("fairnas")
    per_image = activations_per_image(space, (0,) * 19)
    assert 10e6 < per_image < 40e6
    assert per_image < activations_per_image(space, (5,) * 19)


def test_the_papers_batch_is_split_on_a_machine_of_16_gib(data, monkeypatch):
    monkeypatch.setattr(training_memory, "memory_at_hand", lambda _device: 16 * 2**30)
    space = preset("fairnas").proxy(resolution=224, num_classes=10)
    assert 2 <= images_at_once(space, (3,) * 19, data, 2048, CPU) < 2048
