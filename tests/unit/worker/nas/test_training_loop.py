"""The loop that every training shares: each image once an epoch, its own randomness, and what it asks of a subclass."""

import pytest
import torch
from torch import nn

from tests.unit.worker.nas.tiny_training import CPU, TINY_SPACE
from worker.nas.checkpoint import CheckpointStore
from worker.nas.training_config import SupernetTrainingConfig
from worker.nas.training_loop import Iteration, SingleReplica, TrainingLoop, check_fit, trainable
from worker.nas.training_state import TrainingState

CONFIG = SupernetTrainingConfig(epochs=2, batch_size=50, learning_rate=0.01, augmentation="none")


class Noting(nn.Module):
    """A classifier that notes the images it is trained on, and how many threads compute."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(3 * 8 * 8, 10)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.seen, self.threads = [], set()

    def forward(self, x_NCHW):
        self.seen.append(x_NCHW.clone())
        self.threads.add(torch.get_num_threads())
        return self.classifier(self.dropout(x_NCHW.flatten(1)))


class PlainLoop(TrainingLoop):
    """Trains the whole network at a constant rate."""

    def __init__(self, data, config=CONFIG, replica=None, *, seed=0, multi_adds_per_layer=1):
        network = trainable(Noting(), CPU)
        optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate)
        state = TrainingState(network, optimizer, torch.amp.GradScaler("cpu", enabled=False), "", name="network")
        # moments that a checkpoint lists
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        super().__init__(
            state,
            data,
            config,
            seed=seed,
            replica=replica or SingleReplica(),
            dtype=None,
            multi_adds_per_layer=multi_adds_per_layer,
        )
        self.asked, self.stepped = [], []

    def plan(self, epoch, iteration):
        return Iteration(list(self.state.network.parameters()))

    def learning_rate(self, step, num_steps):
        self.asked.append((step, num_steps))
        return 0.01

    def after_step(self, step):
        self.stepped.append(step)

    def trained(self, tmp_path):
        self.run(CheckpointStore(str(tmp_path), "search"), None)
        return self.state.network


def rows(batches):
    """The images of some batches as hashable values, in order."""
    return [image.numpy().tobytes() for image in torch.cat(batches)]


def test_an_epoch_is_every_image_once_in_an_order_of_its_own(tmp_path, data):
    config = SupernetTrainingConfig(epochs=2, batch_size=30, augmentation="none")
    seen = PlainLoop(data, config).trained(tmp_path).seen
    assert [len(batch) for batch in seen] == [30] * 18
    everything = sorted(rows([data.normalise(data.train_images_NCHW)]))
    first, second = rows(seen[:9]), rows(seen[9:])
    assert sorted(first) == sorted(second) == everything
    assert first != second


def test_what_fills_no_batch_is_left_out(tmp_path, data):
    loop = PlainLoop(data)
    report = loop.run(CheckpointStore(str(tmp_path), "search"), None)
    assert [len(batch) for batch in loop.state.network.seen] == [50] * 10
    assert report.num_images == 500


def test_replicas_share_a_batch_between_them(tmp_path, data):
    class Half(SingleReplica):
        num_replicas = 2

        def __init__(self, rank):
            self.rank = rank

    whole, *halves = (
        PlainLoop(data, replica=replica).trained(tmp_path / str(number)).seen
        for number, replica in enumerate((SingleReplica(), Half(0), Half(1)))
    )
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch, torch.cat(parts))


def test_steps_are_counted_over_the_whole_training(tmp_path, data):
    loop = PlainLoop(data)
    loop.trained(tmp_path)
    assert loop.asked == [(step, 10) for step in range(10)]
    assert loop.stepped == list(range(10))


def test_the_seed_decides_and_torchs_own_randomness_is_left_alone(tmp_path, data):
    """Dropout included, which draws from the global generator by itself."""
    results = []
    for number, (seed, other) in enumerate(((0, 1), (0, 2), (1, 1))):
        torch.manual_seed(other)
        loop, before = PlainLoop(data, seed=seed), torch.get_rng_state()
        results.append(loop.trained(tmp_path / str(number)).classifier.weight)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_dropout_zeroes_features_while_training(tmp_path, data):
    """Without it, the same batches give other weights."""
    with_dropout = PlainLoop(data).trained(tmp_path / "with").classifier.weight
    loop = PlainLoop(data)
    loop.dropout.probability = 0.0
    assert not torch.equal(with_dropout, loop.trained(tmp_path / "without").classifier.weight)


@pytest.mark.parametrize(("multi_adds_per_layer", "threads"), [(99_999, 1), (100_000, 2)])
def test_small_layers_are_computed_by_one_thread(tmp_path, data, multi_adds_per_layer, threads):
    """50 images of 100,000 multi-adds are worth the threads there are, which are given back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network = PlainLoop(data, multi_adds_per_layer=multi_adds_per_layer).trained(tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert network.threads == {threads}


@pytest.mark.parametrize(
    ("changes", "batch_size", "num_replicas", "says"),
    [
        ({"input_resolution": 16}, 32, 1, "the space wants 10 classes at 16 px, the data has 10 at 8 px"),
        ({"num_classes": 5}, 32, 1, "the space wants 5 classes at 8 px, the data has 10 at 8 px"),
        ({}, 33, 2, "batch_size 33 cannot be split evenly over 2 processes"),
        ({}, 4, 4, "every process needs at least 2 images per iteration, for BN"),
        ({}, 200 * 2, 200, "there are 270 training images, a batch_size of 400 and 200 process"),
    ],
)
def test_what_cannot_be_trained(data, changes, batch_size, num_replicas, says):
    check_fit(TINY_SPACE, data, 32, 2)
    with pytest.raises(ValueError, match=says):
        check_fit(TINY_SPACE.model_copy(update=changes), data, batch_size, num_replicas)
