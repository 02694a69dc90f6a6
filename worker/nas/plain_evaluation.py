"""The plain path of sub-network sampling: one sub-network by itself, in eager PyTorch.

It is what the fast path of :mod:`worker.nas.evaluation` is tested and measured against, and is kept free of its tricks.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from app.domain.search_config import BNStatistics
from worker.nas.batch_norm import statistics_batches
from worker.nas.data import SearchData
from worker.nas.supernet import Supernet


def recalibrate(subnetwork: nn.Module, images_NCHW: Tensor) -> None:
    """Give every BN layer the statistics of the sub-network itself on a calibration set.

    One forward pass with BN in train mode and the whole set as one batch: each layer's mean and biased variance are
    those of what reaches it when all layers before it normalise by theirs.

    Args:
        subnetwork: Changed in place: running statistics are replaced; left in eval mode.
        images_NCHW: Normalised images, float32.
    """
    subnetwork.eval()
    layers = [module for module in subnetwork.modules() if isinstance(module, nn.BatchNorm2d)]
    sizes: dict[nn.BatchNorm2d, int] = {}

    def note_size(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        sizes[layer] = inputs[0].numel() // inputs[0].shape[1]

    hooks = [layer.register_forward_pre_hook(note_size) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        subnetwork(images_NCHW)
        for layer in layers:
            assert layer.running_var is not None
            # PyTorch keeps the unbiased variance, but normalises by the biased one.
            layer.running_var.mul_((sizes[layer] - 1) / sizes[layer])
    for layer, momentum, hook in zip(layers, momenta, hooks, strict=True):
        layer.momentum = momentum
        hook.remove()
    subnetwork.eval()


def predict_labels_plain(
    supernet: Supernet,
    architecture: Sequence[int],
    data: SearchData,
    *,
    bn_statistics: BNStatistics,
    batch_size: int = 128,
) -> Tensor:
    """Return the labels that one sub-network predicts for the validation images, int64 [N].

    Args:
        supernet: The trained supernet S, on the device of the data; not changed.
        architecture: M.
        data: The validation images, and the calibration images for ``recalibrated``.
        bn_statistics: ``running``: the supernet's averages (the paper's way); ``recalibrated``: the sub-network's own;
            ``batch``: those of the validation images themselves.
        batch_size: Validation images per forward pass (not with ``batch``, whose statistics depend on it).
    """
    subnetwork: nn.Module = supernet.subnetwork(architecture)
    if bn_statistics != "running":
        subnetwork = copy.deepcopy(subnetwork)
    if bn_statistics == "recalibrated":
        recalibrate(subnetwork, data.normalise(data.calibration_images_NCHW))
    was_training = supernet.training
    subnetwork.eval()
    batches: Sequence[Tensor] = torch.split(data.validation_images_NCHW, batch_size)
    if bn_statistics == "batch":
        batches = statistics_batches(data.validation_images_NCHW)
    labels = []
    with torch.no_grad():
        for images_NCHW in batches:
            if bn_statistics == "batch":
                recalibrate(subnetwork, data.normalise(images_NCHW))
            labels.append(subnetwork(data.normalise(images_NCHW)).argmax(1))
    supernet.train(was_training)
    return torch.cat(labels)


def evaluate_plain(
    supernet: Supernet,
    architecture: Sequence[int],
    data: SearchData,
    *,
    bn_statistics: BNStatistics,
    batch_size: int = 128,
) -> int:
    """Return how many validation images one sub-network classifies correctly (z times N; section 3.1).

    The arguments are those of :func:`predict_labels_plain`.
    """
    predicted_N = predict_labels_plain(supernet, architecture, data, bn_statistics=bn_statistics, batch_size=batch_size)
    return int((predicted_N == data.validation_labels_N).sum())
