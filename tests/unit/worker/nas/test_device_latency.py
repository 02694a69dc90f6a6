"""Measuring this machine: every runtime gives a latency for every choice."""

import pytest
import torch

from app.domain.device_measurement import DeviceMeasurement, Runtime
from app.domain.search_space import preset
from worker.nas import latency_measurement
from worker.nas.device_latency import measure_device

SPACE = preset("nas-bench-macro").proxy(resolution=16, width=0.25)


class StopError(Exception):
    pass


@pytest.mark.parametrize(("runtime", "threads"), [("onnxruntime", 1), ("onnxruntime", 0), ("torch", 1), ("torch", 0)])
def test_a_latency_for_every_choice(runtime: Runtime, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_measurement, "_NUM_TURNS", 3)
    monkeypatch.setattr(latency_measurement, "_TURN_S", 0.0)
    wanted, shares = DeviceMeasurement(name="here", owner=None, runtime=runtime, threads=threads), []
    table, report = measure_device(SPACE, wanted, torch.device("cpu"), shares.append)
    table.check_fits(SPACE)
    assert table.function.minimum > 0
    assert report["runtime"].startswith(runtime)
    assert report["threads"] == (threads or "all")
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_it_can_be_stopped_between_two_models() -> None:
    def stop(share: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        measure_device(SPACE, DeviceMeasurement(name="here", owner=None), torch.device("cpu"), stop)
