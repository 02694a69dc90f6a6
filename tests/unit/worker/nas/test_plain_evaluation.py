import torch
from torch import nn

from app.domain.search_space import preset
from worker.nas.data import SearchData
from worker.nas.plain_evaluation import evaluate_plain, predict_labels_plain, recalibrate
from worker.nas.supernet import Supernet

SPACE = preset("nas-bench-macro").proxy(resolution=8, width=0.25)


def images(n, seed):
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def make_data():
    return SearchData(
        images(4, 0), torch.arange(4), images(30, 1), torch.arange(30) % 10, images(20, 2),
        torch.full((3,), 0.5), torch.full((3,), 0.25), 10,
    )  # fmt: skip


def test_after_recalibration_every_layer_normalises_the_calibration_set():
    supernet = Supernet(SPACE, torch.Generator().manual_seed(0))
    subnetwork = supernet.subnetwork([2, 1, 2, 0, 1, 2, 1, 1])
    x = make_data().normalise(images(40, 3))
    recalibrate(subnetwork, x)
    compared = []

    def compare(layer, inputs):
        variance, mean = torch.var_mean(inputs[0].double(), (0, 2, 3), correction=0)
        torch.testing.assert_close(layer.running_mean, mean.float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, variance.float(), rtol=1e-4, atol=1e-5)
        compared.append(layer)

    for layer in subnetwork.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(compare)
    with torch.no_grad():
        subnetwork(x)
    assert len(compared) == len(set(compared)) == 23


def test_the_supernet_is_not_changed():
    supernet = Supernet(SPACE, torch.Generator().manual_seed(0)).train()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for bn_statistics in ("running", "recalibrated"):
        predict_labels_plain(supernet, [1] * 8, make_data(), bn_statistics=bn_statistics)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())
    assert all(module.training for module in supernet.modules())


def test_counts_are_those_of_the_labels():
    supernet, data = Supernet(SPACE, torch.Generator().manual_seed(0)), make_data()
    labels = predict_labels_plain(supernet, [1] * 8, data, bn_statistics="recalibrated", batch_size=7)
    correct = evaluate_plain(supernet, [1] * 8, data, bn_statistics="recalibrated")
    assert correct == int((labels == data.validation_labels_N).sum())
