"""Which device a worker computes on, how much memory it has, and in which precision it trains."""

import os
from pathlib import Path

import torch

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def choose_device(setting: str, process_index: int = 0) -> torch.device:
    """Return the device that a setting asks for.

    Args:
        setting: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:i"``.
        process_index: Index of the worker process on this machine; spreads processes over the GPUs.

    Raises:
        ValueError: If the setting is none of these, or asks for a GPU that is not there.
    """
    num_gpus = torch.cuda.device_count()
    if setting == "cpu" or (setting == "auto" and num_gpus == 0):
        return torch.device("cpu")
    if setting in ("auto", "cuda") and num_gpus:
        return torch.device("cuda", process_index % num_gpus)
    kind, _, index = setting.partition(":")
    if kind != "cuda" or not ((index.isascii() and index.isdigit()) or setting == "cuda"):
        raise ValueError(f"there is no device {setting!r}; set auto, cpu or cuda:INDEX")
    if setting == "cuda" or int(index) >= num_gpus:
        raise ValueError(f"{setting!r} is not there: torch sees {num_gpus} GPU(s) on this machine; set auto or cpu")
    return torch.device("cuda", int(index))


def memory_at_hand(device: torch.device) -> int:
    """Return the memory of a device in bytes: the GPU's, or the machine's within its container's limit.

    It is the total and not what happens to be free, so that batch sizes derived from it are the same in every run.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        if path.is_file() and (limit := path.read_text().strip()).isdigit():
            total = min(total, int(limit))
    return total


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the type of mixed precision: bfloat16, or float16 on GPUs without it; None on the CPU.

    float16 needs a gradient scaler.
    """
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
