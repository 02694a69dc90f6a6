"""Faults that strike a running stack: whatever can be killed, stopped, emptied, filled or truncated under a search."""

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.embedded.process_table import descendants
from app.embedded.stack import Stack
from benchmarks._step_log import StepLog

LEASE_S = 4.0
"""Leases of the stack under fire; a worker is stopped for longer."""


@dataclass
class UnderFire:
    """A stack under fire.

    Attributes:
        stack: The stack, with two workers.
        artifacts: Where checkpoints go.
        rng: Draws faults and moments.
        faults: The names of those that can strike here.
        struck: How often each fault struck.
    """

    stack: Stack
    artifacts: Path
    rng: np.random.Generator
    faults: list[str] = field(default_factory=lambda: sorted(FAULTS))
    struck: Counter[str] = field(default_factory=Counter)

    def pids(self, program: str) -> list[int]:
        """Return the processes of a program of the stack, its own first, its children after it."""
        return descendants(self.stack.pid(program))

    def holder(self) -> tuple[list[int], int] | None:
        """Return the processes of a worker that holds a step, and its child that does; None while all are idle."""
        holding = self._holding_children()
        for program in self.rng.permutation(["worker", "worker-2"]):
            pids = self.pids(str(program))
            for child in holding.intersection(pids):
                return pids, child
        return None

    def holds(self, child: int) -> bool:
        """Whether a worker's child holds a step."""
        return child in self._holding_children()

    def _holding_children(self) -> set[int]:
        engine = create_engine(self.stack.running.database_url, poolclass=NullPool)
        try:
            with engine.connect() as connection:
                held = connection.execute(text("select worker from steps where state = 'leased'")).scalars().all()
        except OperationalError:
            # it is just being started again
            return set()
        # host:main process/child
        return {int(worker.rpartition("/")[2]) for worker in held}

    def num_fenced(self) -> int:
        """Return how many attempts have found their step in other hands so far, by the workers' logs."""
        return StepLog.read(self.stack.state_dir / "logs").endings()["fenced off"]

    def missing(self) -> list[str]:
        """Return the faults that have not struck yet."""
        return [name for name in self.faults if not self.struck[name]]

    def lacks(self, num_faults: int) -> bool:
        """Whether fewer have struck than asked, or one kind has not at all."""
        return self.struck.total() < num_faults or bool(self.missing())

    def keep_up(self) -> None:
        """Start again what was killed."""
        if given_up := self.stack.keep_up():
            raise SystemExit(f"given up: {given_up[0]}")


def strike(soak: UnderFire) -> None:
    """Let one random fault happen, one that has not struck yet as long as there is one."""
    name = str(soak.rng.choice(soak.missing() or soak.faults))
    if FAULTS[name](soak):
        soak.struck[name] += 1
        print(f"  {name}", flush=True)


def kill(pids: list[int]) -> bool:
    """Kill processes without a warning; False where there is none."""
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed > 0


def kill_child(soak: UnderFire) -> bool:
    """Kill the child of a worker that does the work."""
    holder = soak.holder()
    return holder is not None and kill([holder[1]])


def kill_worker(soak: UnderFire) -> bool:
    """Kill a worker that is at work, with all of its processes."""
    holder = soak.holder()
    return holder is not None and kill(holder[0])


def wipe_valkey(soak: UnderFire) -> bool:
    """Kill the broker and take its data away before it starts again: every message is lost."""
    struck = kill(soak.pids("valkey"))
    time.sleep(0.3)
    for entry in (soak.stack.state_dir / "valkey").iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return struck


def stop_worker(soak: UnderFire) -> bool:
    """Stop a worker until its step is taken from it, and let it go on: it must find itself fenced off."""
    holder = soak.holder()
    if holder is None:
        return False
    pids, child = holder
    num_fenced = soak.num_fenced()
    _signal(pids, signal.SIGSTOP)
    try:
        # what it has sent may still be on its way: a step that is done is not taken
        time.sleep(0.5)
        if not soak.holds(child):
            return False
        if not _within_leases(lambda: not soak.holds(child)):
            return False
    finally:
        _signal(pids, signal.SIGCONT)
    # the others may end the search before this one has said what it found, and then nobody listens any more
    _within_leases(lambda: soak.num_fenced() > num_fenced)
    return True


def _within_leases(happened: Callable[[], bool]) -> bool:
    """Wait for something for up to ten leases; return whether it happened."""
    deadline = time.monotonic() + 10 * LEASE_S
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def fill_artifacts(soak: UnderFire) -> bool:
    """Leave no byte free where the checkpoints go, for some seconds."""
    ballast = soak.artifacts / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass
    time.sleep(soak.rng.uniform(1, 4))
    ballast.unlink()
    return True


def truncate_checkpoint(soak: UnderFire) -> bool:
    """Truncate a checkpoint while it is being written."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for path in soak.artifacts.glob("*/.writing-*"):
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, path.stat().st_size // 2)
                return True
    return False


FAULTS: dict[str, Callable[[UnderFire], bool]] = {
    "kill a worker's child": kill_child,
    "kill a worker and its children": kill_worker,
    "kill the API": lambda soak: kill(soak.pids("api")),
    "kill Valkey": lambda soak: kill(soak.pids("valkey")),
    "kill Valkey and wipe its data": wipe_valkey,
    "kill PostgreSQL": lambda soak: kill(soak.pids("postgres")[:1]),
    "kill a backend of PostgreSQL": lambda soak: kill(soak.pids("postgres")[-1:]),
    "stop a worker beyond its lease": stop_worker,
    "fill the artifact directory": fill_artifacts,
    "truncate a checkpoint being written": truncate_checkpoint,
}
