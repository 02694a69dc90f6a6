import dataclasses
import random

import pytest
import torch

from app.domain.search_space import InvalidArchitectureError, preset
from worker.nas import batch_norm, evaluation, evaluation_memory
from worker.nas.data import SearchData
from worker.nas.evaluation import DivergedSupernetError, evaluate_subnetworks, predict_labels
from worker.nas.plain_evaluation import evaluate_plain, predict_labels_plain
from worker.nas.supernet import Supernet
from worker.nas.trie import shard

MODES = ("running", "recalibrated", "batch")
SPACES = {
    name: preset(name).proxy(resolution=16, width=0.25, num_classes=5)
    for name in ("fairnas", "fairnas-se", "nas-bench-macro")
}


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear").mul(255).to(torch.uint8)


@pytest.fixture(scope="module")
def data():
    labels = torch.randint(0, 5, (61,), generator=torch.Generator().manual_seed(9))
    return SearchData(
        images(8, 0), torch.arange(8) % 5, images(61, 1), labels, images(33, 2),
        torch.tensor([0.5, 0.4, 0.6]), torch.tensor([0.2, 0.25, 0.3]), 5,
    )  # fmt: skip


def make_supernet(space, data):
    """A supernet with running statistics of its own paths, and logits that differ from image to image."""
    supernet = Supernet(space, torch.Generator().manual_seed(5))
    for module in supernet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.uniform_(
                module.weight, 0.7, 1.3, generator=torch.Generator().manual_seed(module.num_features)
            )
    torch.nn.init.normal_(supernet.head.classifier.weight, 0, 1, generator=torch.Generator().manual_seed(6))
    supernet.train()
    x = data.normalise(images(32, 7))
    rng = random.Random(0)
    with torch.no_grad():
        for _ in range(4):
            orders = [rng.sample(range(n), n) for n in space.num_choices]
            for i in range(max(space.num_choices)):
                supernet(x, [order[i % len(order)] for order in orders])
        supernet.eval()
        logits = supernet(x, [0] * space.num_cells)
        supernet.head.classifier.bias.sub_(logits.mean(0))
    return supernet


@pytest.fixture(scope="module")
def supernets(data):
    return {name: make_supernet(space, data) for name, space in SPACES.items()}


@pytest.fixture
def many_batches(monkeypatch):
    """Validation images in four batches, as a real D_val needs them."""
    monkeypatch.setattr(evaluation_memory, "_MAX_BATCH", 16)


def sample(space, num, seed, first_cell=0):
    rng = random.Random(seed)
    base = [rng.randrange(n) for n in space.num_choices]
    return [tuple(base[:first_cell] + [rng.randrange(n) for n in space.num_choices[first_cell:]]) for _ in range(num)]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("bn_statistics", MODES)
@pytest.mark.parametrize("max_batch", [512, 16])
def test_it_equals_evaluating_each_subnetwork_by_itself(supernets, data, name, bn_statistics, max_batch, monkeypatch):
    monkeypatch.setattr(evaluation_memory, "_MAX_BATCH", max_batch)
    monkeypatch.setattr(batch_norm, "_IMAGES_PER_BATCH", 20)
    supernet, space = supernets[name], SPACES[name]
    architectures = sample(space, 5, 1) + sample(space, 5, 2, first_cell=space.num_cells - 2)
    fast = predict_labels(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu")
    plain = torch.stack([predict_labels_plain(supernet, a, data, bn_statistics=bn_statistics) for a in architectures])
    assert len(fast.unique()) == 5
    assert (fast == plain).float().mean() >= 1 - 1 / fast.numel()  # one tie may fall the other way
    counts = evaluate_subnetworks(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu")
    assert counts.tolist() == (fast == data.validation_labels_N).sum(1).tolist()
    assert abs(counts[0] - evaluate_plain(supernet, architectures[0], data, bn_statistics=bn_statistics)) <= 1


@pytest.mark.parametrize("bn_statistics", MODES)
@pytest.mark.usefixtures("many_batches")
def test_a_result_does_not_depend_on_what_else_is_evaluated(supernets, data, bn_statistics, monkeypatch):
    supernet, space = supernets["fairnas"], SPACES["fairnas"]
    architectures = sample(space, 12, 3, first_cell=15)

    def evaluate(some):
        return predict_labels(supernet, some, data, bn_statistics=bn_statistics, device="cpu")

    together = dict(zip(architectures, evaluate(architectures), strict=True))
    for part in [architectures[:1], architectures[5:6], *shard(architectures, 5)]:
        for architecture, labels in zip(part, evaluate(part), strict=True):
            assert torch.equal(labels, together[architecture])
    monkeypatch.setattr(evaluation, "_MAX_TRIE_SIZE", 3)
    assert torch.equal(evaluate(architectures), torch.stack([together[a] for a in architectures]))


@pytest.mark.parametrize("bn_statistics", MODES)
@pytest.mark.usefixtures("many_batches")
def test_a_result_does_not_depend_on_the_number_of_threads(supernets, data, bn_statistics):
    supernet, space = supernets["fairnas"], SPACES["fairnas"]
    architectures, threads = sample(space, 6, 4, first_cell=14), torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            results.append(predict_labels(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu"))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("bn_statistics", MODES)
def test_batches_change_rounding_only(supernets, data, bn_statistics, monkeypatch):
    supernet, architectures = supernets["fairnas"], sample(SPACES["fairnas"], 6, 5)
    whole = predict_labels(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu")
    monkeypatch.setattr(evaluation_memory, "_MAX_BATCH", 7)
    pieces = predict_labels(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu")
    assert (whole == pieces).float().mean() > 0.99


def test_repeated_architectures_come_back_in_the_order_given(supernets, data):
    supernet = supernets["nas-bench-macro"]
    first, second = sample(SPACES["nas-bench-macro"], 2, 6)
    counts = evaluate_subnetworks(
        supernet, [second, list(first), second], data, bn_statistics="recalibrated", device="cpu"
    )
    alone = [
        evaluate_subnetworks(supernet, [a], data, bn_statistics="recalibrated", device="cpu")[0]
        for a in (second, first)
    ]
    assert counts.dtype == "int64"
    assert counts.tolist() == [alone[0], alone[1], alone[0]]


def test_no_architectures_have_no_counts(supernets, data):
    for bn_statistics in MODES:
        assert len(evaluate_subnetworks(supernets["fairnas"], [], data, bn_statistics=bn_statistics, device="cpu")) == 0


def test_the_supernet_stays_as_it_is(supernets, data):
    supernet = supernets["fairnas"]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    evaluate_subnetworks(supernet, sample(SPACES["fairnas"], 2, 7), data, bn_statistics="recalibrated", device="cpu")
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


@pytest.mark.parametrize("bn_statistics", MODES)
def test_progress_rises_to_one(supernets, data, bn_statistics, monkeypatch):
    monkeypatch.setattr(evaluation, "_MAX_TRIE_SIZE", 4)
    fractions = []
    evaluate_subnetworks(
        supernets["fairnas"],
        sample(SPACES["fairnas"], 12, 8),
        data,
        bn_statistics=bn_statistics,
        device="cpu",
        on_progress=fractions.append,
    )
    assert fractions == sorted(fractions)
    assert len(fractions) >= 3
    assert 0 < fractions[0] < 1
    assert fractions[-1] == 1


def test_progress_may_cancel(supernets, data):
    class CancelledError(Exception):
        pass

    def cancel(_fraction):
        raise CancelledError

    threads = torch.get_num_threads()
    with pytest.raises(CancelledError):
        evaluate_subnetworks(
            supernets["fairnas"],
            sample(SPACES["fairnas"], 4, 9),
            data,
            bn_statistics="running",
            device="cpu",
            on_progress=cancel,
        )
    assert torch.get_num_threads() == threads


def test_an_architecture_of_another_space_is_refused(supernets, data):
    with pytest.raises(InvalidArchitectureError, match="19 cells"):
        evaluate_subnetworks(supernets["fairnas"], [(0,) * 8], data, bn_statistics="running", device="cpu")


@pytest.mark.parametrize("bn_statistics", MODES)
def test_a_diverged_supernet_is_an_error(data, bn_statistics):
    supernet = Supernet(SPACES["nas-bench-macro"], torch.Generator().manual_seed(0))
    supernet.head.conv.conv.weight.data[0, 0] = float("nan")
    with pytest.raises(DivergedSupernetError, match="lower learning rate"):
        evaluate_subnetworks(supernet, [(1,) * 8], data, bn_statistics=bn_statistics, device="cpu")


def test_statistics_that_overflow_are_an_error(data):
    supernet = Supernet(SPACES["nas-bench-macro"], torch.Generator().manual_seed(0))
    supernet.head.conv.conv.weight.data.fill_(1e38)
    with pytest.raises(DivergedSupernetError, match="recalibration"):
        evaluate_subnetworks(supernet, [(1,) * 8], data, bn_statistics="recalibrated", device="cpu")


def test_logits_that_are_not_finite_count_as_wrong(data):
    supernet = Supernet(SPACES["nas-bench-macro"], torch.Generator().manual_seed(0)).eval()
    supernet.head.classifier.weight.data.fill_(1e38)
    supernet.head.conv.bn.bias.data.fill_(1e3)
    zeros = dataclasses.replace(data, validation_labels_N=torch.zeros(61, dtype=torch.int64))
    arguments = {"bn_statistics": "running", "device": "cpu"}
    assert evaluate_subnetworks(supernet, [(1,) * 8], zeros, **arguments).tolist() == [0]
    assert (predict_labels(supernet, [(1,) * 8], zeros, **arguments) == -1).all()


def test_too_large_a_calibration_set_is_refused(supernets, data):
    with pytest.raises(ValueError, match="calibration images"):
        evaluate_subnetworks(
            supernets["fairnas"],
            [(0,) * 19],
            data,
            bn_statistics="recalibrated",
            device="cpu",
            memory_bytes=100_000,
        )


def test_batch_statistics_are_those_of_about_500_images_each():
    images_NCHW = torch.zeros(1249, 3, 1, 1)
    assert [len(part) for part in batch_norm.statistics_batches(images_NCHW)] == [625, 624]
    assert [len(part) for part in batch_norm.statistics_batches(images_NCHW[:30])] == [30]


def test_progress_with_batch_statistics_rises_to_one(supernets, data, monkeypatch):
    monkeypatch.setattr(batch_norm, "_IMAGES_PER_BATCH", 20)
    seen = []
    architectures = sample(SPACES["fairnas"], 3, 1)
    predict_labels(
        supernets["fairnas"], architectures, data, bn_statistics="batch", device="cpu", on_progress=seen.append
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
