"""Measures a device: the milliseconds of every choice of every cell, from a bundle of ONNX models.

    python latency_measurement.py BUNDLE.zip [--threads 1] [--output device.json]

Runs on the target itself, with Python and onnxruntime alone: this file needs nothing of its project. The output is what
``nasatlas devices add NAME device.json`` registers.

All parts are timed in turn, many times over, so that a machine that slows down does so for all of them; a part's time
is the median. A part by itself pays for what a part inside a network does not (the call, the layout of its input), so
the cells' sums are then fitted to the times of 20 whole networks with a factor, and what is left is stem and head. The
report says how well the sum holds, each network predicted by a fit to the other ones.
"""

import argparse
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_TURN_S = 0.004
"""A part runs for so long at a time, and at least twice."""

_NUM_TURNS = 25
_WARM_UP_TURNS = 3

Run = Callable[[], object]
Progress = Callable[[float], None]


def measure(
    contents: Mapping[str, Any], runs: Mapping[str, Run], progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Time the models of a bundle and return latencies for one image with a report, as a device is registered.

    Args:
        contents: The bundle's ``contents.json``.
        runs: A function per model that runs it once.
        progress: Told the share that is done.
    """
    times = time_in_turns(runs, progress)
    median_ms = {name: statistics.median(samples) for name, samples in times.items()}
    cells_ms = [[median_ms[name] for name in names] for names in contents["cells"]]
    networks = contents["networks"]
    summed = np.array([_sum(cells_ms, network["architecture"]) for network in networks])
    measured = np.array([median_ms[network["model"]] for network in networks])
    factor, base_ms = _fitted(summed, measured)
    errors = _left_out_errors(summed, measured)
    report = {
        "num_networks": len(networks),
        "mean_relative_error": round(float(errors.mean()), 5),
        "max_relative_error": round(float(errors.max()), 5),
        "median_spread": round(statistics.median(_spread(samples) for samples in times.values()), 5),
        "factor": round(factor, 5),
        "stem_and_head_ms": round(sum(median_ms[name] for name in contents["base"]), 5),
        "num_turns": _NUM_TURNS,
    }
    return {
        "search_space": contents["search_space"],
        "base_ms": base_ms,
        "cells_ms": [[factor * ms for ms in cell] for cell in cells_ms],
        "report": report,
    }


def time_in_turns(runs: Mapping[str, Run], progress: Progress = lambda _: None) -> dict[str, list[float]]:
    """Return milliseconds per run of every model, one figure per turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    num_turns = _WARM_UP_TURNS + _NUM_TURNS
    for turn in range(num_turns):
        for position, (name, run) in enumerate(runs.items(), start=1):
            ms = _time_ms(run)
            if turn >= _WARM_UP_TURNS:
                times[name].append(ms)
            progress((turn + position / len(runs)) / num_turns)
    return times


def _time_ms(run: Run) -> float:
    """Milliseconds of one run, averaged over as many as a turn has time for."""
    num_runs, started = 0, time.perf_counter()
    while num_runs < 2 or time.perf_counter() - started < _TURN_S:
        run()
        num_runs += 1
    return (time.perf_counter() - started) / num_runs * 1e3


def _sum(cells_ms: Sequence[Sequence[float]], architecture: Sequence[int]) -> float:
    return sum(cell[choice] for cell, choice in zip(cells_ms, architecture, strict=True))


def _fitted(summed: "np.ndarray[Any, Any]", measured: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Factor of the cells' sums, and the rest (stem and head), by least squares; neither is negative."""
    centred = summed - summed.mean()
    factor = float(centred @ measured / max(float(centred @ centred), 1e-12))
    base_ms = float(measured.mean() - factor * summed.mean())
    if factor <= 0 or base_ms < 0:  # no time is: then the cells alone explain the networks
        return float(summed @ measured / max(float(summed @ summed), 1e-12)), 0.0
    return factor, base_ms


def _left_out_errors(summed: "np.ndarray[Any, Any]", measured: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Relative errors of the sum, each network predicted by a fit to the other ones."""
    errors = []
    for left_out in range(len(measured)):
        others = np.arange(len(measured)) != left_out
        factor, base_ms = _fitted(summed[others], measured[others])
        errors.append(abs(factor * summed[left_out] + base_ms - measured[left_out]) / measured[left_out])
    return np.array(errors)


def _spread(samples: Sequence[float]) -> float:
    """Distance of the quartiles over the median."""
    low, middle, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle


def onnxruntime_runs(bundle: zipfile.ZipFile, num_threads: int) -> tuple[dict[str, Run], dict[str, Any]]:
    """Return a function per model that runs it in onnxruntime, and what is to be known of the runtime.

    Args:
        bundle: The models.
        num_threads: Threads per run; 0: all cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3

    # Azure's runs models elsewhere; the latency of this machine is asked for
    providers = [name for name in onnxruntime.get_available_providers() if not name.startswith("Azure")]

    def run_of(model: bytes) -> Run:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
        given = session.get_inputs()[0]
        # between 0 and 1, as normalised images are: no activation of the averaging layers vanishes
        image = np.random.default_rng(0).random(given.shape, dtype=np.float32)
        return lambda: session.run(None, {given.name: image})

    names = [name for name in bundle.namelist() if name.endswith(".onnx")]
    runs = {name.removesuffix(".onnx"): run_of(bundle.read(name)) for name in names}
    about = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "provider": providers[0],
        "threads": num_threads or "all",
    }
    return runs, about


def measure_bundle(path: Path, num_threads: int, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Measure this machine with onnxruntime and return what can be registered as a device."""
    with zipfile.ZipFile(path) as bundle:
        contents = json.loads(bundle.read("contents.json"))
        runs, about = onnxruntime_runs(bundle, num_threads)
    device = measure(contents, runs, progress)
    return {**device, "report": {**about, **device["report"]}}


def main() -> None:
    """Measure the machine that this runs on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="threads per image; 0: all cores")
    parser.add_argument("--output", type=Path, default=Path("device.json"))
    arguments = parser.parse_args()

    def progress(share: float) -> None:
        sys.stderr.write(f"\r{share:4.0%}")
        sys.stderr.flush()

    device = measure_bundle(arguments.bundle, arguments.threads, progress)
    arguments.output.write_text(json.dumps(device), encoding="utf-8")
    report = device["report"]
    error = report["mean_relative_error"]
    sys.stdout.write(f"\n{arguments.output}: the sum is off by {error:.1%} on whole networks (mean)\n")


if __name__ == "__main__":
    main()
