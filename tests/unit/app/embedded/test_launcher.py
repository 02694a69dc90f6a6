"""The guardian as a program: the exit status that it gives, whose end it waits for, and what it tidies up.

Programs that fork, and guardians and owners that are killed, are in the tests of ``process``, which starts it.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import MarkedProcesses


def launched(*command: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    options = {
        "parent_pid": os.getpid(),
        "stop_signals": [[signal.SIGTERM, 5.0]],
        "death_signal": signal.SIGTERM,
        "identity": {"kind": "same", "uid": os.geteuid(), "gid": os.getegid()},
        "remove": [],
        **changes,
    }
    launcher = (sys.executable, "-m", "app.embedded.launcher", json.dumps(options))
    return subprocess.run((*launcher, *command), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)]
)
def test_its_status_is_the_programs_as_a_shell_has_it(script: str, status: int) -> None:
    assert launched("/bin/sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("program", "says"), [("/nowhere/at/all", "No such file or directory"), ("/", "Permission denied")]
)
def test_a_program_that_cannot_be_run_is_named(program: str, says: str) -> None:
    done = launched(program)
    assert done.returncode == 127
    assert f"launcher: cannot run {program}" in done.stderr
    assert says in done.stderr


def test_an_owner_that_was_gone_before_it_began_is_noticed(marked_processes: "MarkedProcesses") -> None:
    """Between the start of the guardian and its first look, the stack may have been killed."""
    assert launched("/bin/sleep", "600", parent_pid=1).returncode == 128 + signal.SIGTERM
    assert marked_processes.pids() == {}


def test_a_program_that_ignores_its_stop_is_killed(marked_processes: "MarkedProcesses") -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    done = launched(sys.executable, "-c", stubborn, parent_pid=1, stop_signals=[[signal.SIGTERM, 2.0]])
    # the signal may come while the program is only starting, and end it
    assert done.returncode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert marked_processes.pids() == {}


def test_it_removes_what_the_program_leaves_and_nobody_uses(tmp_path: Path) -> None:
    used, unused, target = (tmp_path / name for name in ("used", "unused", "target"))
    for directory in (used, unused, target):
        directory.mkdir()
    (used / "somebody's").touch()
    link = tmp_path / "link"
    link.symlink_to(target)
    socket = unused / "socket"
    remove = [str(path) for path in (socket, unused, used, link, tmp_path / "never made")]
    assert launched("/usr/bin/touch", str(socket), remove=remove).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "used"]
