"""A program of the stack as a supervised child: it has its log, stops in order, and never outlives us."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from app.embedded.errors import EmbeddedStackError, ServiceFailedError
from app.embedded.identity import SAME_IDENTITY, Identity
from app.embedded.process_table import session_members

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
# -I -S: neither the environment nor site-packages can change what the launcher is, and it starts in a few ms.
_LAUNCHER = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from app.embedded.launcher import main
sys.exit(main(sys.argv[1:]))
"""
_MAX_LOG_BYTES = 8 * 2**20


@dataclass(frozen=True)
class StopSignal:
    """One step of an orderly stop.

    Attributes:
        number: The signal to send to the program (not to its children).
        grace_s: How long to wait for the program's end before the next step, at the end SIGKILL for all.
    """

    number: signal.Signals
    grace_s: float

    def __post_init__(self) -> None:
        if self.grace_s < 0:
            raise ValueError(f"grace_s must be at least 0, got {self.grace_s}")


@dataclass(frozen=True)
class ProcessSpec:
    """How to run and how to stop one program.

    Attributes:
        name: What the user calls it, e.g. ``worker``; used in messages.
        command: The program and its arguments.
        log_path: Where its output goes (appended; the previous log is kept as ``.1`` when it has grown large).
        env: Its whole environment; None for ours.
        stop_signals: The orderly stop.
        death_signal: What the kernel sends it should its guardian be killed.
        identity: As whom it runs.
        remove: Files to unlink, and directories to remove if empty, after its end, also if we died.
        inherited_fds: Open files it keeps, e.g. a lock that has to last as long as the program.
    """

    name: str
    command: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] | None = None
    stop_signals: tuple[StopSignal, ...] = (StopSignal(signal.SIGTERM, 10.0),)
    death_signal: signal.Signals = signal.SIGKILL
    identity: Identity = SAME_IDENTITY
    remove: tuple[Path, ...] = ()
    inherited_fds: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError(f"the command of {self.name!r} is empty: give a program and its arguments")

    @property
    def stop_s(self) -> float:
        """The longest an orderly stop takes, in seconds."""
        return sum(step.grace_s for step in self.stop_signals)


class ChildProcess:
    """A running :class:`ProcessSpec`, with a guardian (:mod:`app.embedded.launcher`) between it and us."""

    def __init__(self, spec: ProcessSpec) -> None:
        if not sys.platform.startswith("linux"):
            raise EmbeddedStackError(
                "The embedded stack needs Linux. Elsewhere start PostgreSQL, Redis, the API and a worker by yourself "
                "(docker compose up) and set NASATLAS_DATABASE_URL and NASATLAS_BROKER_URL."
            )
        self.spec = spec
        self._guardian: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the program; returns before it is ready.

        Raises:
            EmbeddedStackError: It was started before.
        """
        if self._guardian is not None:
            raise EmbeddedStackError(f"{self.spec.name} was started already")
        with self._open_log() as log:
            self._log_start_bytes = log.tell()
            self._guardian = subprocess.Popen(
                self._guardian_command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self.spec.env is None else dict(self.spec.env),
                # A session of its own: Ctrl-C and a closed terminal reach us alone, and we stop the program in order.
                start_new_session=True,
                pass_fds=self.spec.inherited_fds,
            )

    @property
    def pid(self) -> int:
        """The guardian's process id, which is also the id of the program's session."""
        assert self._guardian is not None, "not started"
        return self._guardian.pid

    def poll(self) -> int | None:
        """Return the exit status (128 + n after signal n), or None while it runs or before it was started."""
        if self._guardian is None:
            return None
        status = self._guardian.poll()
        if status is not None:
            self._sweep()
            # A guardian that was itself killed has the negative signal number.
            return status if status >= 0 else 128 - status
        return None

    def wait(self, timeout_s: float) -> int:
        """Wait for the program's own end and return its exit status.

        Raises:
            ServiceFailedError: It still ran after ``timeout_s`` seconds (and was stopped).
        """
        assert self._guardian is not None, "not started"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guardian.wait(timeout_s)
        status = self.poll()
        if status is None:
            self.stop()
            raise self.failure(f"did not end within {timeout_s:g} s")
        return status

    def signal_stop(self) -> None:
        """Ask for the orderly stop without waiting for it; :meth:`stop` does both."""
        if self._guardian is not None and self._guardian.poll() is None:
            self._guardian.terminate()

    def stop(self) -> None:
        """Stop the program in order, wait until it and all its descendants are gone. Nothing happens if they are."""
        if self._guardian is None:
            return
        self.signal_stop()
        try:
            self._guardian.wait(self.spec.stop_s + 5.0)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        self._sweep()

    def failure(self, reason: str) -> ServiceFailedError:
        """Return an error for ``reason`` that ends with what the program wrote last."""
        return ServiceFailedError(f"{self.spec.name} {reason}. The end of {self.spec.log_path}:\n{self.log_tail()}")

    def log_tail(self, num_lines: int = 20) -> str:
        """Return the last lines that the program wrote since it was started."""
        try:
            with self.spec.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start_bytes, size - 64 * 1024))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-num_lines:]) or "(it wrote nothing)"

    def _open_log(self) -> IO[bytes]:
        path = self.spec.log_path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
        log = path.open("ab")
        log.seek(0, os.SEEK_END)
        return log

    def _guardian_command(self) -> list[str]:
        options = {
            "parent_pid": os.getpid(),
            "stop_signals": [(int(step.number), step.grace_s) for step in self.spec.stop_signals],
            "death_signal": int(self.spec.death_signal),
            "identity": self.spec.identity.as_options(),
            "remove": [str(path) for path in self.spec.remove],
        }
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(_IMPORT_ROOT), json.dumps(options)]
        return [*launcher, *self.spec.command]

    def _sweep(self) -> None:
        """Kill what a killed guardian could not: the members of its session, which is the program's."""
        deadline = time.monotonic() + 5.0
        while (members := session_members(self.pid)) and time.monotonic() < deadline:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def run_to_end(spec: ProcessSpec, timeout_s: float) -> None:
    """Run a program that ends by itself.

    Raises:
        ServiceFailedError: It exited with another status than 0, or not within ``timeout_s`` seconds.
    """
    with ChildProcess(spec) as child:
        status = child.wait(timeout_s)
        if status != 0:
            raise child.failure(f"ended with status {status}")
