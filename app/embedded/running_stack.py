"""``stack.json``: how other commands find the stack that runs on a state directory."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from app.embedded.directories import DirectoryLock
from app.embedded.process_table import is_alive

_FILE_NAME = "stack.json"


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up.

    Attributes:
        pid: The process that owns it.
        api_url: Where its API answers.
        database_url: SQLAlchemy URL of its database.
        broker_url: Celery URL of its broker.
        socket_dir: The directory of its servers' sockets, None when both servers were given.
    """

    pid: int
    api_url: str
    database_url: str
    broker_url: str
    socket_dir: str | None

    def write(self, state_dir: Path) -> None:
        """Write ``stack.json``, readable by us alone (the URLs may hold passwords), whole or not at all."""
        scratch = state_dir / f"{_FILE_NAME}.{os.getpid()}"
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(self), file, indent=2)
        scratch.replace(state_dir / _FILE_NAME)


def stack_lock(state_dir: Path) -> DirectoryLock:
    """Return the lock that the stack on ``state_dir`` and all its programs hold."""
    return DirectoryLock(state_dir / "stack.lock")


def read_stack_file(state_dir: Path) -> RunningStack | None:
    """Return what ``stack.json`` says, also when that stack was killed; None without a readable file."""
    try:
        content = json.loads((state_dir / _FILE_NAME).read_text())
        return RunningStack(**content)
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def remove_stack_file(state_dir: Path) -> None:
    """Remove ``stack.json`` if it is there."""
    with contextlib.suppress(FileNotFoundError):
        (state_dir / _FILE_NAME).unlink()


def find_running_stack(state_dir: Path) -> RunningStack | None:
    """Return the stack that runs on ``state_dir`` and is ready, or None."""
    found = read_stack_file(state_dir)
    if found is None or not is_alive(found.pid) or not stack_lock(state_dir).is_held():
        return None
    return found
