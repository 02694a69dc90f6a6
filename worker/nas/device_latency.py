"""Measures the machine that a worker runs on: onnxruntime on its CPU, or torch on its own device."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from app.domain.device_measurement import DeviceMeasurement
from app.domain.latency import LatencyTable
from app.domain.search_space import SearchSpace
from worker.nas.blocks import Head, build_choice, build_stem
from worker.nas.latency_measurement import Progress, Run, measure, onnxruntime_runs
from worker.nas.latency_models import bundle, sampled_networks


def measure_device(
    space: SearchSpace, wanted: DeviceMeasurement, device: torch.device, progress: Progress
) -> tuple[LatencyTable, dict[str, Any]]:
    """Return the latencies of a space's choices, for one image, and a report on how they were measured.

    Args:
        space: The target search space.
        wanted: What to measure.
        device: Where torch runs.
        progress: Told the share that is done, after every model.
    """
    if wanted.runtime == "torch":
        contents, runs, about = _torch_runs(space, device, wanted.threads)
    else:
        with zipfile.ZipFile(io.BytesIO(bundle(space))) as archive:
            contents = json.loads(archive.read("contents.json"))
            runs, about = onnxruntime_runs(archive, wanted.threads)
    measured = measure(contents, runs, progress)
    cells_ms = tuple(map(tuple, measured["cells_ms"]))
    return LatencyTable(measured["base_ms"], cells_ms), {**about, **measured["report"]}


def _torch_runs(
    space: SearchSpace, device: torch.device, num_threads: int
) -> tuple[dict[str, Any], dict[str, Run], dict[str, Any]]:
    """What :func:`measure` wants, of eager torch modules in channels_last; each run waits for the device."""
    stem, head = build_stem(space), Head(space)
    choices = [
        [build_choice(space, cell_index, choice) for choice in cell.choices]
        for cell_index, cell in enumerate(space.cells)
    ]
    modules: dict[str, nn.Module] = {"stem": stem, "head": head}
    cells = [[f"cell{i}-{c}" for c in range(len(cell))] for i, cell in enumerate(choices)]
    for names, cell in zip(cells, choices, strict=True):
        modules |= zip(names, cell, strict=True)
    networks = []
    for number, architecture in enumerate(sampled_networks(space)):
        path = [cell[choice] for cell, choice in zip(choices, architecture, strict=True)]
        modules[f"network{number}"] = nn.Sequential(stem, *path, head)
        networks.append({"model": f"network{number}", "architecture": list(architecture)})
    contents: dict[str, Any] = {
        "search_space": space.model_dump(mode="json"),
        "base": ["stem", "head"],
        "cells": cells,
        "networks": networks,
    }
    images = _inputs(space, stem, choices, device)
    runs: dict[str, Run] = {
        name: _run(module, images[_place(name)], device, num_threads) for name, module in modules.items()
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return contents, runs, {"runtime": f"torch {torch.__version__}", "provider": name, "threads": num_threads or "all"}


def _place(name: str) -> str:
    """Which input a module takes: that of the network, of a cell, or of the head."""
    return name.partition("-")[0] if name.startswith("cell") else ("head" if name == "head" else "image")


def _inputs(
    space: SearchSpace, stem: nn.Module, choices: list[list[nn.Module]], device: torch.device
) -> dict[str, torch.Tensor]:
    """Activations at the entrance of stem, cells and head."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, space.input_resolution, space.input_resolution, generator=generator).to(device)
    inputs, x_NCHW = {"image": image}, image
    with torch.inference_mode():
        x_NCHW = stem.eval().to(device)(image)
        for cell_index, cell in enumerate(choices):
            inputs[f"cell{cell_index}"] = x_NCHW
            for module in cell:
                module.eval().to(device)
            x_NCHW = cell[0](x_NCHW)
    inputs["head"] = x_NCHW
    return {name: x.contiguous(memory_format=torch.channels_last) for name, x in inputs.items()}


def _run(module: nn.Module, image: torch.Tensor, device: torch.device, num_threads: int) -> Callable[[], None]:
    network = module.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run() -> None:
        with torch.inference_mode():
            network(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def on_threads() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            run()
        finally:
            torch.set_num_threads(before)

    return on_threads if num_threads and num_threads != torch.get_num_threads() else run
