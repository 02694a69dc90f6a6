"""The programs of the service itself: the API, a worker, and the reaper that wakes lost steps."""

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded.process import StopSignal


@dataclass(frozen=True)
class ServiceSpec:
    """One program of the service, without what the stack adds to all of them (environment, log, guardian).

    Attributes:
        name: What the user calls it; also the name of its log.
        command: The program and its arguments.
        stop_signals: Its orderly stop.
    """

    name: str
    command: tuple[str, ...]
    stop_signals: tuple[StopSignal, ...] = (StopSignal(signal.SIGTERM, 10.0),)


@dataclass(frozen=True)
class ServicePlan:
    """What the list of services depends on.

    Attributes:
        state_dir: The stack's directory.
        api_host: Where the API listens.
        api_port: Its port.
        with_workers: Whether a worker and the reaper run too.
    """

    state_dir: Path
    api_host: str
    api_port: int
    with_workers: bool


ServiceList = Callable[[ServicePlan], Sequence[ServiceSpec]]


def default_services(plan: ServicePlan) -> Sequence[ServiceSpec]:
    """Return the API and, with workers, one worker (one step at a time) and the reaper (Celery beat).

    The API is as many processes as ``WEB_CONCURRENCY`` says, uvicorn's own variable.
    """
    # -P: a directory named app or worker where the user happens to be must not shadow ours.
    python = (sys.executable, "-P", "-m")
    listen = ("--host", plan.api_host, "--port", str(plan.api_port))
    api = ServiceSpec(
        "api",
        (
            *(*python, "uvicorn", "--factory", "app.main:served_app", *listen),
            *("--loop", "app.server_loop:ServerLoop"),
            # Progress streams never end by themselves; without a limit uvicorn would wait for them for ever.
            *("--timeout-graceful-shutdown", "2"),
            # A process that starts on a busy machine must not be taken for a dead one, nor a dead one wait for long.
            *("--timeout-worker-healthcheck", "15"),
        ),
        (StopSignal(signal.SIGTERM, 6.0),),
    )
    if not plan.with_workers:
        return (api,)
    celery = (*python, "celery", "-A", "worker.celery_app")
    alone = ("--without-gossip", "--without-mingle")  # there is no other worker to talk to
    worker = ServiceSpec(
        "worker",
        (*celery, "worker", "--pool", "prefork", "--concurrency", "1", *alone, "--loglevel", "INFO"),
        # A warm shutdown hands the running step back within seconds; one that does not is cut off by the cold one.
        (StopSignal(signal.SIGTERM, 10.0), StopSignal(signal.SIGQUIT, 6.0)),
    )
    reaping = (*python, "celery", "-A", "worker.reaper", "worker", "--beat", "--queues", "reap")
    schedule = plan.state_dir / "beat" / "schedule"
    reaper = ServiceSpec(
        "reaper",
        (
            *reaping,
            "--schedule",
            str(schedule),
            "--pool",
            "solo",
            "--hostname",
            "reaper@%h",
            *alone,
            "--loglevel",
            "INFO",
        ),
        (StopSignal(signal.SIGTERM, 5.0),),
    )
    return (api, worker, reaper)
