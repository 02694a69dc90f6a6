"""Supernet training by several processes of one machine, one per GPU: the same loop, the batch split among them.

The parent starts ``torch.distributed.run`` with this module in a process group of its own, hands the images over in a
file, and reads progress from a named pipe, one JSON object per line. A second pipe is the leash: the parent holds its
writing end and never writes; whoever of the children sees it end (the parent cancelled, or was killed) exits at once.

Every process draws the same sampled path and the same batch and takes its part of it; gradients are averaged by DDP. BN
takes the statistics of each process's part, as the paper's 8 GPUs did, so results equal those of another number of
processes only approximately.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from app.domain.search_space import SearchSpace
from app.thread_waiting import THREAD_WAITING
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.data import SearchData
from worker.nas.supernet_training import train_supernet
from worker.nas.training_config import (
    OnTrainingProgress,
    SupernetTrainingConfig,
    TrainingDivergedError,
    TrainingProgress,
    TrainingReport,
)
from worker.nas.training_loop import SingleReplica
from worker.nas.training_state import EpochResult

_POLL_S = 0.25
_STOP_S = 5.0
_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (TrainingDivergedError, CheckpointError, ValueError)
}


class DistributedTrainingError(RuntimeError):
    """The processes ended without a result and without a reason that the user could do something about."""


def train_supernet_distributed(
    space: SearchSpace,
    data: SearchData,
    config: SupernetTrainingConfig,
    *,
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
    on_progress: OnTrainingProgress | None = None,
    num_processes: int,
) -> TrainingReport:
    """Train the supernet by several processes; see :func:`~worker.nas.supernet_training.train_supernet`.

    Args:
        space: The space of the networks that are trained.
        data: Its images, on the CPU.
        config: How to train; ``batch_size`` is that of all processes together.
        seed: The search's seed.
        device: Its type says whether GPUs (nccl) or CPU cores (gloo) train.
        checkpoints: The search's checkpoints, in a store that every process reaches.
        on_progress: Called several times a second, also while the processes start; may raise, which stops them all.
        num_processes: How many; on GPUs at most as many as there are.

    Raises:
        ValueError: If the request does not fit, or the number of processes does not fit the machine.
        TrainingDivergedError: If the loss or the weights became NaN or infinite.
        CheckpointError: If the checkpoints belong to another training, or all are damaged.
        DistributedTrainingError: If a process died of something else; the message ends with its last output.
    """
    if num_processes < 1 or (device.type == "cuda" and num_processes > torch.cuda.device_count()):
        raise ValueError(f"{num_processes} processes do not fit the {torch.cuda.device_count()} GPU(s) of this machine")
    with tempfile.TemporaryDirectory(prefix="nasatlas-training-") as name:
        directory = Path(name)
        _write_job(directory, space, data, config, seed=seed, device=device, checkpoints=checkpoints)
        with _processes(directory, num_processes) as launcher:
            return _follow(launcher, directory, on_progress)


def _write_job(
    directory: Path,
    space: SearchSpace,
    data: SearchData,
    config: SupernetTrainingConfig,
    *,
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
) -> None:
    tensors = {field.name: value for field in fields(data) if isinstance(value := getattr(data, field.name), Tensor)}
    save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, directory / "data.safetensors")
    job = {
        "space": space.model_dump(mode="json"),
        "config": asdict(config),
        "seed": seed,
        "device_type": device.type,
        "num_classes": data.num_classes,
        "artifact_url": checkpoints.artifact_url,
        "search_id": checkpoints.search_id,
    }
    (directory / "job.json").write_text(json.dumps(job))
    os.mkfifo(directory / "progress", 0o600)
    os.mkfifo(directory / "leash", 0o600)


@contextlib.contextmanager
def _processes(directory: Path, num_processes: int) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher and its children in a process group of their own, all ended on the way out."""
    job = directory / "job.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command += [f"--nproc-per-node={num_processes}", "-m", "worker.nas.distributed_training", str(job)]
    threads = max(1, torch.get_num_threads() // num_processes)
    environment = {**THREAD_WAITING, **os.environ, "OMP_NUM_THREADS": str(threads)}
    # Opened for both directions, because a pipe cannot be opened for writing only before somebody reads it.
    leash = os.open(directory / "leash", os.O_RDWR)
    try:
        with (directory / "output").open("wb") as output:
            launcher = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )
        try:
            yield launcher
        finally:
            _end(launcher)
    finally:
        os.close(leash)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End the launcher, which ends its children; should it fail to, the leash does."""
    if launcher.poll() is None:
        launcher.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            launcher.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _follow(
    launcher: subprocess.Popen[bytes], directory: Path, on_progress: OnTrainingProgress | None
) -> TrainingReport:
    """Turn the children's lines into calls until they end, and their last line into the result or the error."""
    progress = TrainingProgress(0, 0, 0.0, float("nan"))
    outcome: dict[str, Any] = {}
    for message in _messages(launcher, directory / "progress"):
        if "progress" in message:
            progress = TrainingProgress(**message["progress"])
        outcome.update({key: message[key] for key in ("report", "error") if key in message and "error" not in outcome})
        if on_progress is not None:
            on_progress(progress)
    if "error" in outcome:
        raise _ERRORS[outcome["error"]["type"]](outcome["error"]["message"])
    if launcher.returncode != 0 or "report" not in outcome:
        tail = (directory / "output").read_text(errors="replace")[-2000:]
        raise DistributedTrainingError(f"the training processes ended with status {launcher.returncode}: {tail}")
    report = outcome["report"]
    results = tuple(EpochResult(**result) for result in report.pop("results"))
    return TrainingReport(**{**report, "results": results, "warnings": tuple(report["warnings"])})


def _messages(launcher: subprocess.Popen[bytes], pipe: Path) -> Iterator[dict[str, Any]]:
    """Yield the children's lines as they come, and an empty message whenever none came for a while."""
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    pending = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(reader, selectors.EVENT_READ)
            while True:
                ended = launcher.poll() is not None
                readable = bool(selector.select(0 if ended else _POLL_S))
                chunk = os.read(reader, 65536) if readable else b""
                *lines, pending = (pending + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines)
                if not chunk and ended:
                    return
                if not chunk:
                    # Without a writer the pipe is always readable, at its end.
                    time.sleep(_POLL_S if readable else 0.0)
                    yield {}
    finally:
        os.close(reader)


class _AccelerateReplica(SingleReplica):
    """One process of several, synchronised by Hugging Face ``accelerate``."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank = accelerator.process_index
        self.num_replicas = accelerator.num_processes

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network in DDP."""
        wrapped: nn.Module = self.accelerator.prepare_model(network, device_placement=False)
        return wrapped

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the processes."""
        total: Tensor = self.accelerator.reduce(values, reduction="sum")
        return total


class _Pipe:
    """The child's end of the progress pipe. Lines are short enough to be written at one go."""

    def __init__(self, path: Path) -> None:
        # Fails where nobody reads: then the parent is gone already.
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(self._writer, True)

    def write(self, message: dict[str, Any]) -> None:
        """Write one line; raises BrokenPipeError when the parent has died."""
        os.write(self._writer, json.dumps(message).encode() + b"\n")


def _follow_leash(path: Path) -> None:
    """End this process as soon as the parent lets go of the leash, even inside a collective that hangs."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def wait_for_end() -> None:
        os.read(reader, 1)
        # A killed parent cannot remove the images it handed over.
        shutil.rmtree(path.parent, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=wait_for_end, name="leash", daemon=True).start()


def main(job_file: str) -> None:
    """Run one process of a distributed training: what ``torch.distributed.run`` starts.

    Args:
        job_file: The JSON file that :func:`train_supernet_distributed` wrote.
    """
    directory = Path(job_file).parent
    _follow_leash(directory / "leash")
    job = json.loads(Path(job_file).read_text())
    pipe = _Pipe(directory / "progress")
    try:
        report = _train_replica(job, directory, pipe)
    except tuple(_ERRORS.values()) as error:
        kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
        pipe.write({"error": {"type": kind, "message": str(error)}})
        raise
    if report is not None:
        pipe.write({"report": report})


def _train_replica(job: dict[str, Any], directory: Path, pipe: _Pipe) -> dict[str, Any] | None:
    """Train this process's part; the first process returns the report."""
    # A sampled path leaves most parameters unused; and only the first process's BN statistics are ever saved.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(cpu=job["device_type"] == "cpu", kwargs_handlers=[ddp])
    tensors = load_file(directory / "data.safetensors")
    images = {
        key: value.contiguous(memory_format=torch.channels_last) for key, value in tensors.items() if value.ndim == 4
    }
    data = SearchData(**{**tensors, **images}, num_classes=job["num_classes"])  # type: ignore[arg-type]
    replica = _AccelerateReplica(accelerator)
    report = train_supernet(
        SearchSpace.model_validate(job["space"]),
        data,
        SupernetTrainingConfig(**job["config"]),
        seed=job["seed"],
        device=accelerator.device,
        checkpoints=CheckpointStore(job["artifact_url"], job["search_id"]),
        on_progress=(lambda progress: pipe.write({"progress": asdict(progress)})) if replica.rank == 0 else None,
        replica=replica,
    )
    accelerator.end_training()
    return asdict(report) if replica.rank == 0 else None


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    # Not through the interpreter's end: torch's threads that are still there then abort the process now and then
    # ("terminate called without an active exception"), and the launcher kills the others while they save.
    os._exit(0)
