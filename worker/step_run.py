"""Running one claimed step: work in this thread, heartbeats in another, and what becomes of the result."""

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy.exc import OperationalError

from app.db.steps import Signal
from worker.pipeline import search as search_pipeline
from worker.pipeline.ports import LeaseLostError, Networks, Outcome, StepInterrupted
from worker.store import Claim, PostgresStore

log = structlog.get_logger(__name__)

Ending = Literal["done", "handed back", "fenced off", "failed"]

STORE_PATIENCE_S = 120.0
"""How long a finished result waits for a database that is away (a crash restart) before it is given up."""


class Heartbeat:
    """Renews a claim from a thread of its own, and passes on what the database says to the thread that works.

    The working thread calls :meth:`report`, which costs nothing; the other one writes it down every ``interval_s``.
    """

    def __init__(self, store: PostgresStore, claim: Claim, interval_s: float) -> None:
        """Prepare heartbeats for a claim; they begin with the context."""
        self._store, self._claim, self._interval_s = store, claim, interval_s
        self._progress: tuple[float, Mapping[str, Any] | None] = (0.0, None)
        self._signal: Signal = "go"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def report(self, progress: float, detail: Mapping[str, Any] | None = None) -> None:
        """Note how far the step is.

        Raises:
            LeaseLostError: If another worker has the step.
            StepInterrupted: If the search was cancelled or the worker shuts down.
        """
        self._progress = (min(max(progress, 0.0), 1.0), detail)
        self.check()

    def check(self) -> None:
        """Raise as :meth:`report` does, without news."""
        if self._signal == "lost":
            raise LeaseLostError(f"step {self._claim.step.id}: another worker has it")
        if self._signal != "go":
            raise StepInterrupted(self._signal)

    def _beat(self) -> None:
        while self._signal == "go" and not self._stopped.wait(self._interval_s):
            progress, detail = self._progress
            try:
                self._signal = self._store.heartbeat(self._claim, progress, detail)
            except OperationalError as error:
                # the database may be restarting; the lease tells whether it took too long
                log.warning("heartbeat failed", step_id=self._claim.step.id, error=str(error.orig))


@dataclass(frozen=True)
class StepRunner:
    """Claims and runs steps.

    Attributes:
        store: The database.
        networks: The torch side.
        wake: Sends wake-ups for steps that became ready.
        worker: Name of this worker's child.
        heartbeat_s: Seconds between heartbeats.
        shard_size: Architectures in one evaluation step.
    """

    store: PostgresStore
    networks: Networks
    wake: Callable[[list[int]], None]
    worker: str
    heartbeat_s: float
    shard_size: int

    def run(self, step_id: int) -> Ending | None:
        """Claim a step and do it; None where there was nothing to do."""
        claim = self.store.claim(step_id, self.worker)
        if claim is None:
            return None
        with structlog.contextvars.bound_contextvars(
            search_id=claim.search.id, round_index=claim.step.round_index, step_id=step_id, attempt=claim.step.attempt
        ):
            log.info("step begins", kind=claim.step.kind, shard_index=claim.step.shard_index)
            ending = self._run_claimed(claim)
            log.info("step ends", kind=claim.step.kind, ending=ending)
            return ending

    def _run_claimed(self, claim: Claim) -> Ending:
        try:
            with Heartbeat(self.store, claim, self.heartbeat_s) as heartbeat:
                outcome = search_pipeline.run_step(
                    claim.search, claim.step, self.networks, self.store, heartbeat.report, shard_size=self.shard_size
                )
                self.wake(self._complete(claim, outcome, heartbeat))
        except LeaseLostError:
            return "fenced off"
        except StepInterrupted as interrupted:
            self.store.hand_back(claim)
            log.info("handed back", reason=str(interrupted))
            return "handed back"
        except Exception as error:
            # whatever went wrong, the search's owner reads it; the traceback is for the operator's log
            log.exception("step failed", kind=claim.step.kind)
            self.store.fail(claim, readable_reason(claim, error))
            return "failed"
        return "done"

    def _complete(self, claim: Claim, outcome: Outcome, heartbeat: Heartbeat) -> list[int]:
        """Store an outcome; a database that is away for a moment is waited for, while the lease lasts."""
        deadline = time.monotonic() + STORE_PATIENCE_S
        while True:
            try:
                return self.store.complete(claim, outcome)
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("result not stored yet", step_id=claim.step.id, error=str(error.orig))
                time.sleep(1.0)
                heartbeat.check()


def readable_reason(claim: Claim, error: Exception) -> str:
    """Say for people what failed and where: a user's error by its message, any other with its kind and place."""
    where = (
        claim.step.kind if claim.step.round_index is None else f"{claim.step.kind} of round {claim.step.round_index}"
    )
    if isinstance(error, ValueError):
        return f"{where}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{where}: {type(error).__name__} in {frame.name}: {error}; see the worker's log, then resume the search"
