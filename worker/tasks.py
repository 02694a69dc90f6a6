"""The Celery task of the workers: a thin edge around :mod:`worker.step_run`."""

import os
from functools import lru_cache

import torch

from app.queue import RUN_STEP, wake
from app.settings import get_settings
from app.telemetry import span_maker
from worker.celery_app import app, store, worker_name
from worker.nas.device import choose_device
from worker.networks import TorchNetworks
from worker.step_run import StepRunner


@lru_cache(maxsize=1)
def _runner() -> StepRunner:
    """Return this child's runner; it keeps the networks between steps."""
    settings = get_settings()
    return StepRunner(
        store=store(),
        networks=TorchNetworks(
            choose_device=_device,
            data_root=settings.data_root,
            artifact_url=settings.artifacts(),
            upload_root=settings.uploads(),
            num_processes=settings.training_processes,
            memory_bytes=settings.evaluation_memory_bytes,
        ),
        wake=wake,
        worker=f"{worker_name()}/{os.getpid()}",
        heartbeat_s=settings.heartbeat_s,
        shard_size=settings.shard_size,
        max_attempts=settings.max_attempts,
        span=span_maker(settings, "nasatlas-worker"),
        max_silence_s=settings.max_silence_s,
    )


def _device() -> torch.device:
    from billiard.process import current_process

    return choose_device(get_settings().device, getattr(current_process(), "index", 0) or 0)


@app.task(name=RUN_STEP)
def run_step(step_id: int) -> None:
    """Claim a step and do it: the one whose turn it is, which need not be the one that became ready and is named."""
    _runner().run_next()
