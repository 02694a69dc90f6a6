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

from app.embedded.process_table import descendants
from app.embedded.stack import Stack

LEASE_S = 4.0
"""Leases of the stack under fire; a worker is stopped for longer."""


@dataclass
class UnderFire:
    """A stack under fire.

    Attributes:
        stack: The stack, with two workers.
        artifacts: Where checkpoints go.
        rng: Draws faults and moments.
        struck: How often each fault struck.
    """

    stack: Stack
    artifacts: Path
    rng: np.random.Generator
    struck: Counter[str] = field(default_factory=Counter)

    def pids(self, program: str) -> list[int]:
        """Return the processes of a program of the stack, its own first, its children after it."""
        return descendants(self.stack.pid(program))

    def worker(self) -> list[int]:
        """Return the processes of one of the workers."""
        return self.pids(str(self.rng.choice(["worker", "worker-2"])))

    def keep_up(self) -> None:
        """Start again what was killed."""
        if given_up := self.stack.keep_up():
            raise SystemExit(f"given up: {given_up[0]}")


def strike(soak: UnderFire) -> None:
    """Let one random fault happen."""
    name = str(soak.rng.choice(sorted(FAULTS)))
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
    for pid in soak.worker()[1:]:
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return kill([pid])
    return False


def wipe_valkey(soak: UnderFire) -> bool:
    """Kill the broker and take its data away before it starts again: every message is lost."""
    struck = kill(soak.pids("valkey"))
    time.sleep(0.3)
    for entry in (soak.stack.state_dir / "valkey").iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return struck


def stop_worker(soak: UnderFire) -> bool:
    """Stop a worker for longer than its lease and let it go on: it must find itself fenced off."""
    pids = soak.worker()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(1.5 * LEASE_S)
    return bool(pids)


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
    "kill a worker and its children": lambda soak: kill(soak.worker()),
    "kill the API": lambda soak: kill(soak.pids("api")),
    "kill Valkey": lambda soak: kill(soak.pids("valkey")),
    "kill Valkey and wipe its data": wipe_valkey,
    "kill PostgreSQL": lambda soak: kill(soak.pids("postgres")[:1]),
    "kill a backend of PostgreSQL": lambda soak: kill(soak.pids("postgres")[-1:]),
    "stop a worker beyond its lease": stop_worker,
    "fill the artifact directory": fill_artifacts,
    "truncate a checkpoint being written": truncate_checkpoint,
}
