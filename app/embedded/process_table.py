"""Reading Linux's process table: who descends from whom. Standard library only, the launcher imports it bare."""

import os
from pathlib import Path
from typing import NamedTuple


class ProcessEntry(NamedTuple):
    """One line of the process table.

    Attributes:
        pid: The process.
        state: One letter, ``Z`` for a zombie.
        parent_pid: Its parent, or the process that adopted it.
        session_id: The session it belongs to.
    """

    pid: int
    state: str
    parent_pid: int
    session_id: int


def process_table() -> list[ProcessEntry]:
    """Return every process that can be seen from here, zombies included."""
    entries = (read_process(int(name)) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 (speed)
    return [entry for entry in entries if entry is not None]


def read_process(pid: int) -> ProcessEntry | None:
    """Return the entry of ``pid``, or None when there is no such process (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessEntry(pid, fields[0], int(fields[1]), int(fields[3]))


def is_alive(pid: int) -> bool:
    """Say whether ``pid`` runs; a zombie does not."""
    entry = read_process(pid)
    return entry is not None and entry.state not in "ZX"


def descendants(root_pid: int) -> list[int]:
    """Return the children of ``root_pid``, their children and so on, without ``root_pid`` itself."""
    children: dict[int, list[int]] = {}
    for entry in process_table():
        children.setdefault(entry.parent_pid, []).append(entry.pid)
    found: list[int] = []
    pending = [root_pid]
    while pending:
        for child in children.get(pending.pop(), ()):
            found.append(child)
            pending.append(child)
    return found


def session_members(session_id: int) -> list[int]:
    """Return the live processes of one session, its leader included."""
    return [entry.pid for entry in process_table() if entry.session_id == session_id and entry.state not in "ZX"]


def works_in(pid: int, directory: Path) -> bool:
    """Say whether ``pid`` has ``directory`` as its working directory, as every process of a PostgreSQL server has."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(directory)
    except OSError:
        return False
