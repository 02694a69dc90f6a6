"""Two CPU processes (gloo) train one supernet: close to one process, resumable, and never left behind.

Equal to a training by one process are the initial weights, the sampled paths, the batches, their augmentation and the
schedule. BN statistics are those of each process's half, so losses are close and not equal.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from app.domain.search_space import Head, preset
from tests.unit.worker.nas.tiny_training import CPU, StoppedError
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.distributed_training import train_supernet_distributed
from worker.nas.supernet_training import SupernetTrainingConfig, TrainingDivergedError, train_supernet

SPACE = preset("nas-bench-macro").proxy(resolution=8, width=0.125, num_classes=10)
CONFIG = SupernetTrainingConfig(epochs=3, batch_size=64, learning_rate=0.05, augmentation="crop")


def train(checkpoints, data, config=CONFIG, on_progress=None, num_processes=2, space=SPACE):
    return train_supernet_distributed(
        space,
        data,
        config,
        seed=0,
        device=CPU,
        checkpoints=checkpoints,
        on_progress=on_progress,
        num_processes=num_processes,
    )


def descendants():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until_gone(pids, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_cancelled_all_processes_end_and_resumed_it_comes_close_to_one_process(tmp_path, data):
    checkpoints = CheckpointStore(str(tmp_path), "two")
    others = set(descendants())  # the servers of this test run
    seen: set[int] = set()

    def stop_after_an_epoch(progress):
        seen.update(set(descendants()) - others)
        if "training-000001" in checkpoints.names():
            raise StoppedError

    with pytest.raises(StoppedError):
        train(checkpoints, data, on_progress=stop_after_an_epoch)
    assert len(seen) >= 3  # the launcher and two processes
    assert wait_until_gone(seen) == []
    assert not checkpoints.exists("supernet")

    report = train(checkpoints, data)
    assert report.first_epoch >= 1
    assert report.num_images == (3 - report.first_epoch) * 4 * 64
    alone = train_supernet(SPACE, data, CONFIG, seed=0, device=CPU, checkpoints=CheckpointStore(str(tmp_path), "one"))
    assert [result.loss for result in report.results] == pytest.approx([r.loss for r in alone.results], abs=0.15)
    assert checkpoints.names() == ("supernet",)


@pytest.mark.slow
def test_users_errors_come_back_as_what_they_are(tmp_path, data):
    checkpoints = CheckpointStore(str(tmp_path), "search")
    with pytest.raises(TrainingDivergedError, match="lower the learning rate"):
        train(checkpoints, data, SupernetTrainingConfig(epochs=2, batch_size=64, learning_rate=1e30))
    with pytest.raises(ValueError, match="0 processes do not fit"):
        train(checkpoints, data, num_processes=0)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(tmp_path, data):
    undisturbed, stopped = CheckpointStore(str(tmp_path), "undisturbed"), CheckpointStore(str(tmp_path), "stopped")
    train(undisturbed, data)

    def stop_after_an_epoch(progress):
        if "training-000001" in stopped.names():
            raise StoppedError

    with pytest.raises(StoppedError):
        train(stopped, data, on_progress=stop_after_an_epoch)
    report = train(stopped, data)
    assert report.first_epoch >= 1
    first, second = (store.load_tensors("supernet").tensors for store in (undisturbed, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_one_process_gives_what_no_process_gives(tmp_path, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = CheckpointStore(str(tmp_path), "one")
        train(one, data, num_processes=1)
        none = CheckpointStore(str(tmp_path), "none")
        train_supernet(SPACE, data, CONFIG, seed=0, device=CPU, checkpoints=none)
    finally:
        torch.set_num_threads(threads)
    first, second = (store.load_tensors("supernet").tensors for store in (one, none))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_another_trainings_checkpoint_is_refused(tmp_path, data):
    checkpoints = CheckpointStore(str(tmp_path), "search")
    train_supernet(SPACE, data, CONFIG, seed=0, device=CPU, checkpoints=checkpoints)
    with pytest.raises(CheckpointError, match="another search space"):
        train(checkpoints, data, space=SPACE.model_copy(update={"head": Head(out_channels=40)}))


@pytest.mark.slow
def test_a_killed_parent_takes_all_along(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import torch\n"
        "from app.domain.search_space import preset\n"
        "from worker.nas.checkpoint import CheckpointStore\n"
        "from worker.nas.data import load_search_data\n"
        "from worker.nas.distributed_training import train_supernet_distributed\n"
        "from worker.nas.supernet_training import SupernetTrainingConfig\n"
        "data = load_search_data('digits', None, resolution=8, num_classes=None, num_images=300,\n"
        "    validation_fraction=0.1, num_calibration_images=32, seed=0)\n"
        "train_supernet_distributed(\n"
        "    preset('nas-bench-macro').proxy(resolution=8, width=0.125), data,\n"
        "    SupernetTrainingConfig(epochs=10_000, batch_size=64, learning_rate=0.05, augmentation='crop'), seed=0,\n"
        f"    device=torch.device('cpu'), checkpoints=CheckpointStore({str(tmp_path)!r}, 'search'), num_processes=2)\n"
    )
    root = Path(__file__).parents[4]
    parent = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    )
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "search").glob("training-*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        children = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        assert len(children) >= 3
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert wait_until_gone(children, 60) == []
    assert list(tmp_path.glob("nasatlas-training-*")) == []
