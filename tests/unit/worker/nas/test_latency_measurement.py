"""How times of parts become latencies: medians, a fit to whole networks, and an honest error."""

import itertools
import time
from typing import Any

import numpy as np
import pytest

from worker.nas import latency_measurement
from worker.nas.latency_measurement import measure, time_in_turns

CONTENTS: dict[str, Any] = {
    "search_space": {"name": "toy"},
    "base": ["stem", "head"],
    "cells": [["a", "b"], ["a", "c"]],
    "networks": [
        {"model": f"network{i}", "architecture": list(architecture)}
        for i, architecture in enumerate(itertools.product((0, 1), repeat=2))
    ],
}
PARTS_MS = {"stem": 1.0, "head": 2.0, "a": 3.0, "b": 5.0, "c": 4.0}


def whole(architecture: list[int]) -> float:
    names = (cell[choice] for cell, choice in zip(CONTENTS["cells"], architecture, strict=True))
    return PARTS_MS["stem"] + PARTS_MS["head"] + sum(PARTS_MS[name] for name in names)


def timed_as(monkeypatch: pytest.MonkeyPatch, networks_ms: list[float], noise: float = 0.0) -> dict[str, Any]:
    """Measure with given times in the place of a clock."""
    rng = np.random.default_rng(0)
    given = PARTS_MS | {f"network{i}": ms for i, ms in enumerate(networks_ms)}
    monkeypatch.setattr(latency_measurement, "_time_ms", lambda run: given[run()] * (1 + noise * rng.normal()))
    return measure(CONTENTS, {name: (lambda name=name: name) for name in given})


def test_parts_that_add_up_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    device = timed_as(monkeypatch, [whole(n["architecture"]) for n in CONTENTS["networks"]])
    assert device["base_ms"] == pytest.approx(3.0)
    assert device["cells_ms"] == [[pytest.approx(3.0), pytest.approx(5.0)], [pytest.approx(3.0), pytest.approx(4.0)]]
    assert device["report"]["mean_relative_error"] == pytest.approx(0.0, abs=1e-6)
    assert device["search_space"] == {"name": "toy"}


def test_a_factor_and_an_offset_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    device = timed_as(monkeypatch, [0.8 * whole(n["architecture"]) + 0.5 for n in CONTENTS["networks"]])
    assert device["report"]["factor"] == pytest.approx(0.8)
    assert device["report"]["stem_and_head_ms"] == pytest.approx(3.0)
    assert device["base_ms"] == pytest.approx(0.8 * 3 + 0.5)
    assert device["cells_ms"][0] == [pytest.approx(2.4), pytest.approx(4.0)]


def test_the_error_is_that_of_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the best line would need a negative stem and head, the cells alone are fitted, and judged."""
    networks_ms = [1.5 * whole(n["architecture"]) - 8.0 for n in CONTENTS["networks"]]
    device = timed_as(monkeypatch, networks_ms)
    assert device["base_ms"] == 0.0
    cells_ms = device["cells_ms"]
    summed = [sum(c[i] for c, i in zip(cells_ms, n["architecture"], strict=True)) for n in CONTENTS["networks"]]
    off = [abs(s - ms) / ms for s, ms in zip(summed, networks_ms, strict=True)]
    assert 0 < max(off) < 0.2
    assert device["report"]["max_relative_error"] >= max(off)  # judged on what was left out, so no better


def test_networks_that_do_not_add_up_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    device = timed_as(monkeypatch, [9.0, 10.0, 11.0, 30.0])
    assert device["report"]["max_relative_error"] > 0.3
    assert device["report"]["mean_relative_error"] <= device["report"]["max_relative_error"]


def test_the_median_of_the_turns_counts_and_their_spread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = timed_as(monkeypatch, [whole(n["architecture"]) for n in CONTENTS["networks"]], noise=0.05)
    assert 0.02 < device["report"]["median_spread"] < 0.15
    assert device["cells_ms"][0][1] == pytest.approx(5.0, rel=0.1)


def test_all_models_take_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_measurement, "_TURN_S", 0.0)
    order, shares = [], []
    runs = {name: (lambda name=name: order.append(name)) for name in ("a", "b")}
    times = time_in_turns(runs, shares.append)
    assert order[:8] == ["a", "a", "b", "b"] * 2
    assert {name: len(samples) for name, samples in times.items()} == {"a": 25, "b": 25}
    assert shares[-1] == 1.0
    assert all(ms >= 0 for samples in times.values() for ms in samples)


def test_a_run_is_timed_in_milliseconds() -> None:
    assert latency_measurement._time_ms(lambda: time.sleep(0.01)) >= 10.0
