"""Whether a training fits into a device, and how much of a batch at once: said before, so that no worker dies of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from app.domain.search_space import SearchSpace
from app.domain.supernet_size import least_training_bytes
from worker.nas.data import SearchData
from worker.nas.device import autocast_dtype, memory_at_hand
from worker.nas.subnetwork import Subnetwork

_PARAMETER_BYTES = 20
"""float32: the weight, its gradient, two moments and the moving average."""

_SHARE = 0.5
"""Of the memory that activations may take: backward passes hold gradients beside them, and other processes run."""


def check_training_memory(space: SearchSpace, batch_size: int, device: torch.device) -> None:
    """Check that a training can fit at all.

    Args:
        space: The space that is trained.
        batch_size: Images at a time on this device.
        device: Where.

    Raises:
        ValueError: If even the narrowest paths would take more memory than the device has.
    """
    activation_bytes = 4 if autocast_dtype(device) is None else 2
    needed, at_hand = least_training_bytes(space, batch_size, activation_bytes), memory_at_hand(device)
    if needed > at_hand:
        raise ValueError(
            f"training this supernet takes {needed / 2**30:.1f} GiB or more, and the worker's {device.type} has "
            f"{at_hand / 2**30:.1f} GiB; lower batch_size, proxy_resolution or proxy_width"
        )


def images_at_once(
    space: SearchSpace, architecture: Sequence[int], data: SearchData, batch_size: int, device: torch.device
) -> int:
    """Return how many images of a batch one network can train on at once; always the same on the same machine.

    Args:
        space: The space of the network.
        architecture: M.
        data: The images, which are on the device as well.
        batch_size: Images per iteration.
        device: Where.

    Returns:
        At most ``batch_size``.

    Raises:
        ValueError: If not even three images fit.
    """
    activation_bytes = 4 if autocast_dtype(device) is None else 2
    images = (data.train_images_NCHW, data.validation_images_NCHW, data.calibration_images_NCHW)
    # the batch itself is there as uint8 and as float32
    batch_bytes = batch_size * 3 * data.resolution**2 * 5
    weight_bytes = _PARAMETER_BYTES * sum(parameter.numel() for parameter in _meta(space, architecture).parameters())
    taken = sum(image.nbytes for image in images) + batch_bytes + weight_bytes
    at_hand = memory_at_hand(device)
    per_image = activation_bytes * activations_per_image(space, architecture)
    fitting = int(_SHARE * (at_hand - taken)) // per_image
    # of an odd batch, parts of two would leave a single image, of which BN makes nothing
    if fitting < min(3, batch_size):
        raise ValueError(
            f"training {space.code(architecture)} at {space.input_resolution} px takes "
            f"{(taken + 3 * per_image / _SHARE) / 2**30:.2f} GiB or more with three images at a time, and the worker's "
            f"{device.type} has {at_hand / 2**30:.2f} GiB; lower batch_size or num_images, or train the proxy network"
        )
    return min(batch_size, fitting)


def activations_per_image(space: SearchSpace, architecture: Sequence[int]) -> int:
    """Return how many values per image a network keeps for its backward pass, without computing any."""
    few, many = 2, 4
    kept = _kept_values(space, architecture, many) - _kept_values(space, architecture, few)
    return kept // (many - few)


def _kept_values(space: SearchSpace, architecture: Sequence[int], num_images: int) -> int:
    """Values in all tensors that autograd keeps, each counted once though several operators keep it."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    size = space.input_resolution
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _meta(space, architecture)(torch.empty(num_images, 3, size, size, device="meta"))
    return sum(tensor.numel() for tensor in kept.values())


def _meta(space: SearchSpace, architecture: Sequence[int]) -> Subnetwork:
    """The network without memory, in training mode."""
    with torch.device("meta"):
        return Subnetwork(space, architecture).train()
