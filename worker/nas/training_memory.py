"""Whether the training of a supernet fits into a device: said before it begins, so that no worker dies of it."""

import torch

from app.domain.search_space import SearchSpace
from app.domain.supernet_size import least_training_bytes
from worker.nas.device import autocast_dtype, memory_at_hand


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
