"""Running one claimed step: work in this thread, heartbeats in another, and what becomes of the result."""

import errno
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from app.db.steps import Signal
from app.domain.lookup_table import LookupTable
from app.domain.steps import PairSource
from app.domain.subspace import Subspace
from app.telemetry import Span, no_span
from worker.pipeline import search as search_pipeline
from worker.pipeline.ports import (
    LeaseLostError,
    Networks,
    Pair,
    Search,
    StandaloneLabel,
    StepInterrupted,
)
from worker.store import Claim, PostgresStore

log = structlog.get_logger(__name__)

Ending = Literal["done", "handed back", "put off", "fenced off", "failed"]

_TEMPORARY = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOMEM, errno.ENFILE, errno.EMFILE),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EREMOTEIO),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE, errno.EAGAIN),
}
"""What storage says when it is full or away: nothing is wrong with the search, and it can be mended."""

STORE_PATIENCE_S = 120.0
"""How long a step waits for a database that is away (a crash restart) before it gives up."""

DEFAULT_MAX_SILENCE_S = 3600.0
"""Steps report several times a second; only native code that never returns is silent for so long."""

_RETRY_S = 1.0
_MAX_REASON_LENGTH = 2000

T = TypeVar("T")


class Heartbeat:
    """Renews a claim from a thread of its own, and passes on what the database says to the thread that works.

    The working thread calls :meth:`report`, which costs nothing; the other one writes it down every ``interval_s``. It
    goes on after a cancellation: a step that stops late is no dead worker.
    """

    def __init__(
        self, store: PostgresStore, claim: Claim, interval_s: float, max_silence_s: float = DEFAULT_MAX_SILENCE_S
    ) -> None:
        """Prepare heartbeats for a claim; they begin with the context.

        Args:
            store: The database.
            claim: What is renewed.
            interval_s: Seconds between two heartbeats.
            max_silence_s: A step that has not reported for so long hangs, and its lease is left to run out.
        """
        self._store, self._claim, self._interval_s = store, claim, interval_s
        self._max_silence_s, self._reported_s = max_silence_s, time.monotonic()
        self._progress: tuple[float, Mapping[str, Any] | None] = (0.0, None)
        self._hangs = False
        self._signal: Signal = "go"
        self._error: Exception | None = None
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
            Exception: Whatever ended the heartbeats; without them the lease would run out while the work goes on.
        """
        self._progress, self._reported_s = (min(max(progress, 0.0), 1.0), detail), time.monotonic()
        self.check()

    def check(self) -> None:
        """Raise as :meth:`report` does, without news."""
        if self._error is not None:
            raise self._error
        if self._signal == "lost":
            raise LeaseLostError(f"step {self._claim.step.id}: another worker has it")
        self.check_wanted()

    def check_wanted(self) -> None:
        """Raise if the result is not wanted; after a commit whose answer was lost, only the lease looks lost."""
        if self._signal in ("cancel", "release"):
            raise StepInterrupted(self._signal)

    def _beat(self) -> None:
        while self._signal != "lost" and not self._stopped.wait(self._interval_s):
            progress, detail = self._progress
            if time.monotonic() - self._reported_s > self._max_silence_s:
                if not self._hangs:
                    log.error("step hangs, its lease is not renewed", step_id=self._claim.step.id, progress=progress)
                self._hangs = True
                continue
            try:
                signal = self._store.heartbeat(self._claim, progress, detail)
                if signal != "go":
                    self._signal = signal
            except OperationalError as error:
                # the database may be restarting; the lease tells whether it took too long
                log.warning("heartbeat failed", step_id=self._claim.step.id, error=str(error.orig))
            except Exception as error:
                # passed on to the thread that works, which fails the step with it
                self._error = error
                return


class PatientReader:
    """The store's Reader port for a step under way: a database that is away for a moment is waited for."""

    def __init__(self, store: PostgresStore, heartbeat: Heartbeat) -> None:
        """Read from a store, unless the heartbeat says to stop."""
        self._store, self._check = store, heartbeat.check

    def subspace(self, search: Search, round_index: int) -> Subspace:
        """Return S_t of a round that has begun."""
        return patiently(lambda: self._store.subspace(search, round_index), self._check)

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        """Return a round's pairs of one source, sorted by code."""
        return patiently(lambda: self._store.pairs(search, round_index, source), self._check)

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        """Return the predicted accuracies of some rows of a round's table."""
        return patiently(lambda: self._store.predictions(search, round_index, subspace_indices), self._check)

    def table(self, search: Search, round_index: int) -> LookupTable:
        """Return the whole table that a round has published last."""
        return patiently(lambda: self._store.table(search, round_index), self._check)

    def fit_report(self, search: Search, round_index: int) -> Mapping[str, Any]:
        """Return the figures that were published with it."""
        return patiently(lambda: self._store.fit_report(search, round_index), self._check)

    def labels(self, search: Search) -> list[StandaloneLabel]:
        """Return the architectures that the search has trained by themselves so far, sorted by round and code."""
        return patiently(lambda: self._store.labels(search), self._check)


def patiently(call: Callable[[], T], check: Callable[[], None]) -> T:
    """Make a call to the database, again and again while it is away, for up to ``STORE_PATIENCE_S``.

    Args:
        call: One transaction, safe to repeat.
        check: Raises if it is no use to go on.
    """
    deadline = time.monotonic() + STORE_PATIENCE_S
    while True:
        try:
            return call()
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the database", error=str(error.orig))
            time.sleep(_RETRY_S)
            check()


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
        max_attempts: How often a step may be put off, or kill its worker, before its search fails.
        span: Makes a span for traces of each step.
        max_silence_s: A step that has not reported for so long hangs; its lease is left to run out.
    """

    store: PostgresStore
    networks: Networks
    wake: Callable[[list[int]], None]
    worker: str
    heartbeat_s: float
    shard_size: int
    max_attempts: int
    span: Span = no_span
    max_silence_s: float = DEFAULT_MAX_SILENCE_S

    def run_next(self) -> Ending | None:
        """Claim the step whose turn it is and do it; None where there was nothing to do."""
        claim = self.store.claim_fairest(self.worker)
        if claim is None:
            return None
        with structlog.contextvars.bound_contextvars(
            search_id=claim.search.id,
            round_index=claim.step.round_index,
            step_id=claim.step.id,
            attempt=claim.step.attempt,
            request_id=claim.request_id,
        ):
            log.info("step begins", kind=claim.step.kind, shard_index=claim.step.shard_index)
            with self.span(claim.step.kind, _span_attributes(claim)):
                ending = self._run_claimed(claim)
            log.info("step ends", kind=claim.step.kind, ending=ending)
            return ending

    def _run_claimed(self, claim: Claim) -> Ending:
        # around everything: the lease is renewed until the step is stored or handed back
        with Heartbeat(self.store, claim, self.heartbeat_s, self.max_silence_s) as heartbeat:
            try:
                reader = PatientReader(self.store, heartbeat)
                outcome = search_pipeline.run_step(
                    claim.search, claim.step, self.networks, reader, heartbeat.report, shard_size=self.shard_size
                )
                # Fenced by itself; to the heartbeat, a commit whose answer was lost looks like a lost lease.
                ready = patiently(lambda: self.store.complete(claim, outcome, heartbeat.check_wanted), _go_on)
            except LeaseLostError:
                return "fenced off"
            except StepInterrupted as interrupted:
                patiently(lambda: self.store.hand_back(claim), _go_on)
                log.info("handed back", reason=str(interrupted))
                return "handed back"
            except Exception as error:
                # whatever went wrong, the search's owner reads it; the traceback is for the operator's log
                log.exception("step failed", kind=claim.step.kind)
                return self._give_up(claim, error)
        self.wake(ready)
        return "done"

    def _give_up(self, claim: Claim, error: Exception) -> Ending:
        """Leave the step for later where that may help, else fail the search."""
        reason = readable_reason(claim, error)
        if isinstance(error, OSError) and error.errno in _TEMPORARY:
            patiently(lambda: self.store.put_off(claim, reason, self.max_attempts), _go_on)
            return "put off"
        patiently(lambda: self.store.fail(claim, reason), _go_on)
        return "failed"


def _span_attributes(claim: Claim) -> dict[str, str | int]:
    step = claim.step
    values = {"search_id": claim.search.id, "request_id": claim.request_id, "round_index": step.round_index}
    values |= {"step_id": step.id, "attempt": step.attempt, "shard_index": step.shard_index}
    return {f"nasatlas.{name}": value for name, value in values.items() if value is not None}


def _go_on() -> None:
    """For calls that are fenced by themselves: there is nothing to check between two tries."""


def readable_reason(claim: Claim, error: Exception) -> str:
    """Say for people what failed and where: a user's error by its message, any other with its kind and place."""
    where = (
        claim.step.kind if claim.step.round_index is None else f"{claim.step.kind} of round {claim.step.round_index}"
    )
    if isinstance(error, ValueError):
        return _storable(f"{where}: {error}")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return _storable(
        f"{where}: {type(error).__name__} in {frame.name}: {error}; see the worker's log, then resume the search"
    )


def _storable(text: str) -> str:
    """Return a text that PostgreSQL takes; file names in messages may hold zeros, and bytes that are no UTF-8."""
    readable = text.encode("utf-8", errors="backslashreplace").decode().replace("\0", "\\0")
    if len(readable) <= _MAX_REASON_LENGTH:
        return readable
    half = _MAX_REASON_LENGTH // 2
    return f"{readable[:half]} [...] {readable[-half:]}"
