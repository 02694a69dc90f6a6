"""How many images run at once: from the memory that a machine has in all, never from what happens to be free.

Batch sizes change the last bits of a sum. From total memory or a given budget they are the same in every run.
"""

import os
from dataclasses import dataclass

import torch

from app.domain.search_space import SearchSpace
from worker.nas.device import memory_at_hand

_MAX_BATCH = 512
"""Images per batch beyond which nothing is gained: the work per node outweighs what a node costs in Python."""


@dataclass(frozen=True)
class MemoryPlan:
    """What evaluation may hold.

    Attributes:
        batch_size: Validation images per batch, at least 1.
        inner_bytes: Largest inner activation of the whole calibration set that is kept.
    """

    batch_size: int
    inner_bytes: int


def plan_memory(
    space: SearchSpace,
    *,
    resolution: int,
    num_calibration: int,
    device: torch.device,
    bytes_per_value: int,
    memory_bytes: int | None = None,
) -> MemoryPlan:
    """Return how much to run at once.

    Args:
        space: The space of the supernet.
        resolution: Height and width of the images.
        num_calibration: Images of the calibration set, which pass each layer together; 0 without recalibration.
        device: Where evaluation runs.
        bytes_per_value: Of an activation.
        memory_bytes: Budget for activations; None: a quarter of all memory, so that several workers fit.

    Raises:
        ValueError: If not even the activations between the cells fit for the calibration set.
    """
    budget = memory_bytes if memory_bytes is not None else memory_at_hand(device) // 4
    path, widest = _bytes_per_image(space, resolution, bytes_per_value)
    if num_calibration * path > budget // 2:
        raise ValueError(
            f"{num_calibration} calibration images need {num_calibration * path / 2**20:,.0f} MiB for activations, and "
            f"there are {budget / 2**21:,.0f} MiB; use at most {max(1, budget // 2 // path)} calibration images"
        )
    num_walkers = (os.cpu_count() or 1) if device.type == "cpu" else 1
    share = budget // 2 // num_walkers
    per_image = path if device.type == "cpu" else path + 3 * widest  # a CPU runs the inside of a block in small chunks
    return MemoryPlan(batch_size=min(_MAX_BATCH, max(1, share // per_image)), inner_bytes=share // 4)


def _bytes_per_image(space: SearchSpace, resolution: int, bytes_per_value: int) -> tuple[int, int]:
    """Bytes of all activations between the blocks of a path, and of the widest one inside a block."""

    def halved(size: int, stride: int) -> int:
        return -(-size // stride)

    size = halved(resolution, space.stem.stride)
    path, widest = space.stem.final_channels * size**2, space.stem.out_channels * size**2
    for cell_index, cell in enumerate(space.cells):
        expansion = max(choice.expansion for choice in cell.choices)
        widest = max(widest, space.in_channels(cell_index) * expansion * size**2)
        size = halved(size, cell.stride)
        path += cell.out_channels * size**2
    return path * bytes_per_value, max(widest, space.head.out_channels * size**2) * bytes_per_value
