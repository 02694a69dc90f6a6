"""The workers' Celery application: its names, and what keeps long steps from being lost or done twice."""

import os
import socket

import pytest
from celery.signals import worker_shutting_down

from app.settings import Settings

pytestmark = pytest.mark.usefixtures("broker_nobody_asks")


def test_children_bear_the_name_of_their_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """By it a worker that shuts down finds the steps that its children hold."""
    from worker import celery_app

    assert celery_app.worker_name() == f"{socket.gethostname()}:{os.getpid()}"

    class Child:
        name = "SpawnPoolWorker-1"

    monkeypatch.setattr(celery_app, "current_process", Child)
    assert celery_app.worker_name() == f"{socket.gethostname()}:{os.getppid()}"


def test_a_step_is_acknowledged_when_it_is_done_and_taken_one_at_a_time() -> None:
    from worker.celery_app import make_worker_app

    conf = make_worker_app().conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1


def test_children_do_not_inherit_torch_by_fork() -> None:
    from worker.celery_app import make_worker_app

    assert make_worker_app().conf.worker_pool_start_method == "spawn"


def test_a_shutdown_asks_for_the_steps_of_this_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import celery_app

    asked = []

    class Store:
        def request_release(self, worker: str) -> None:
            asked.append(worker)

    monkeypatch.setattr(celery_app, "store", Store)
    worker_shutting_down.send(sender=None, sig="TERM", how="Warm", exitcode=0)
    assert asked == [celery_app.worker_name()]


def test_without_a_database_it_says_what_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import celery_app

    monkeypatch.setattr(celery_app, "get_settings", lambda: Settings(database_url=None))
    with pytest.raises(RuntimeError, match="NASATLAS_DATABASE_URL is not set; `nasatlas serve` starts"):
        celery_app.store()
