"""The Celery application of the workers."""

import os
import socket

from billiard.process import current_process
from celery import Celery
from celery.signals import setup_logging, worker_shutting_down

from app.db.engine import get_engine
from app.logging import configure_logging
from app.queue import make_celery
from app.settings import get_settings
from worker.store import PostgresStore


def make_worker_app() -> Celery:
    """Return the application with what only workers need."""
    settings = get_settings()
    celery = make_celery(settings)
    celery.conf.update(
        imports=("worker.tasks",),
        worker_pool="prefork",
        # forked children of a parent that has run torch hang, and CUDA forbids fork
        worker_pool_start_method="spawn",
        # a child imports torch before it says that it is up; by default Celery kills it after 4 s, again and again
        worker_proc_alive_timeout=120.0,
        worker_prefetch_multiplier=1,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # below the container's stop grace period; steps are handed back on request long before
        worker_soft_shutdown_timeout=20.0,
        worker_send_task_events=True,
    )
    return celery


def worker_name() -> str:
    """Name of this worker's main process, the same in its children."""
    # not by FORKED_BY_MULTIPROCESSING: Celery sets it in the main process as well once that has started its children
    in_child = current_process().name != "MainProcess"
    return f"{socket.gethostname()}:{os.getppid() if in_child else os.getpid()}"


def store() -> PostgresStore:
    """Return the store on the configured database."""
    settings = get_settings()
    return PostgresStore(get_engine(settings.required_database_url()), lease_s=settings.lease_s)


@setup_logging.connect
def _use_our_logging(**_: object) -> None:
    """Celery's own logging set-up would print a second, unstructured copy."""
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)


@worker_shutting_down.connect
def _hand_back_steps(**_: object) -> None:
    """Ask our children to hand their steps back, so that a shutdown neither waits for them nor loses a lease's time."""
    store().request_release(worker_name())


app = make_worker_app()
