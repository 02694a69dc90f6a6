"""Settings to devices, on a machine with or without GPUs."""

import pytest
import torch

from worker.nas.device import autocast_dtype, choose_device, memory_at_hand


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_each_worker_process_gets_its_own_gpu(two_gpus):
    assert [choose_device("auto", index).index for index in range(4)] == [0, 1, 0, 1]
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")


def test_without_gpus_auto_is_the_cpu(no_gpu):
    assert choose_device("auto", 3) == torch.device("cpu")


@pytest.mark.parametrize("setting", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there(no_gpu, setting):
    with pytest.raises(ValueError, match="is not there"):
        choose_device(setting)


@pytest.mark.parametrize("setting", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "cpu:1", "CPU"])
def test_no_device(two_gpus, setting):
    with pytest.raises(ValueError, match="no device"):
        choose_device(setting)


def test_memory_is_the_machines_and_the_same_twice():
    cpu = torch.device("cpu")
    assert memory_at_hand(cpu) == memory_at_hand(cpu) > 2**28


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    limit, no_limit = tmp_path / "limit", tmp_path / "none"
    limit.write_text("1048576\n")
    no_limit.write_text("max\n")
    monkeypatch.setattr("worker.nas.device._CGROUP_LIMITS", (no_limit, tmp_path / "missing", limit))
    assert memory_at_hand(torch.device("cpu")) == 1048576


def test_precision(monkeypatch):
    assert autocast_dtype(torch.device("cpu")) is None
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert autocast_dtype(torch.device("cuda", 0)) == dtype
