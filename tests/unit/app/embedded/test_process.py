"""Supervised children: they stop in order, say why they failed, and never outlive anybody."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.embedded.errors import EmbeddedStackError, ServiceFailedError
from app.embedded.process import ChildProcess, ProcessSpec, StopSignal, run_to_end

if TYPE_CHECKING:
    from tests.conftest import MarkedProcesses

# A parent with two grandchildren: an ordinary one, and one that left for a session of its own. All ignore SIGTERM.
_FAMILY = textwrap.dedent("""
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for new_session in (False, True):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)  # grandchild"],
                         start_new_session=new_session)
    print("up", flush=True)
    time.sleep(1000)
""")
_FAMILY_MARK = "for new_session in"


def _python(code: str, tmp_path: Path, **options: object) -> ProcessSpec:
    command = (sys.executable, "-c", code)
    return ProcessSpec(name="program", command=command, log_path=tmp_path / "program.log", **options)  # type: ignore[arg-type]


def _wait_for_log(child: ChildProcess, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in child.log_tail():
        assert child.poll() is None, child.log_tail()
        assert time.monotonic() < deadline, child.log_tail()
        time.sleep(0.02)


_QUICK = (StopSignal(signal.SIGTERM, 0.2),)


def test_exit_status_and_log_of_a_program_that_ends(tmp_path: Path) -> None:
    with ChildProcess(_python("print('hello'); raise SystemExit(7)", tmp_path)) as child:
        assert child.wait(30) == 7
    assert child.log_tail() == "hello"


def test_exit_status_of_a_program_that_is_killed(tmp_path: Path) -> None:
    with ChildProcess(_python("import os; os.kill(os.getpid(), 9)", tmp_path)) as child:
        assert child.wait(30) == 128 + 9


def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    spec = ProcessSpec(name="ghost", command=("/nowhere/ghost",), log_path=tmp_path / "ghost.log")
    with pytest.raises(
        ServiceFailedError, match=r"(?s)ghost ended with status 127.*cannot run /nowhere/ghost: .*No such"
    ):
        run_to_end(spec, 30)


def test_failure_shows_only_the_log_of_this_run(tmp_path: Path) -> None:
    (tmp_path / "program.log").write_text("an old complaint\n")
    with pytest.raises(ServiceFailedError, match="a new complaint") as caught:
        run_to_end(_python("raise SystemExit('a new complaint')", tmp_path), 30)
    assert "old" not in str(caught.value)
    assert "an old complaint" in (tmp_path / "program.log").read_text()


def test_an_orderly_stop_lets_the_program_finish(tmp_path: Path) -> None:
    code = """if True:
        import signal, sys, time
        def stop(*_): print("put things away", flush=True); sys.exit(3)
        signal.signal(signal.SIGTERM, stop)
        print("up", flush=True)
        while True: time.sleep(0.05)
    """
    child = ChildProcess(_python(code, tmp_path))
    child.start()
    _wait_for_log(child, "up")
    child.stop()
    assert child.poll() == 3
    assert "put things away" in child.log_tail()


def test_signals_are_sent_in_turn(tmp_path: Path) -> None:
    code = """if True:
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: print("not yet", flush=True))
        signal.signal(signal.SIGQUIT, lambda *_: sys.exit(4))
        print("up", flush=True)
        while True: time.sleep(0.05)
    """
    child = ChildProcess(
        _python(code, tmp_path, stop_signals=(StopSignal(signal.SIGTERM, 0.3), StopSignal(signal.SIGQUIT, 20)))
    )
    child.start()
    _wait_for_log(child, "up")
    child.stop()
    assert child.poll() == 4
    assert "not yet" in child.log_tail()


def test_stop_takes_the_grandchildren_along(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    child = ChildProcess(_python(_FAMILY, tmp_path, stop_signals=_QUICK))
    child.start()
    _wait_for_log(child, "up")
    assert len(marked_processes.pids()) == 4, "guardian, program, two grandchildren"
    child.stop()
    assert marked_processes.pids() == {}
    assert child.poll() == 128 + 9


def test_grandchildren_go_when_the_program_dies(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    child = ChildProcess(_python(_FAMILY, tmp_path))
    child.start()
    _wait_for_log(child, "up")
    os.kill(marked_processes.find(_FAMILY_MARK), signal.SIGKILL)
    assert child.wait(30) == 128 + 9
    assert marked_processes.pids() == {}


def test_nothing_is_left_when_the_guardian_is_killed(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    # The one grandchild that made a session of its own is beyond reach then; the ordinary one is not.
    child = ChildProcess(_python(_FAMILY.replace("(False, True)", "(False,)"), tmp_path))
    child.start()
    _wait_for_log(child, "up")
    os.kill(child.pid, signal.SIGKILL)
    _assert_gone_after_poll(child, marked_processes)


def _assert_gone_after_poll(child: ChildProcess, marked_processes: "MarkedProcesses") -> None:
    deadline = time.monotonic() + 30
    while child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert child.poll() == 128 + 9
    marked_processes.assert_gone()


def test_the_kernel_ends_the_program_of_a_killed_guardian(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    child = ChildProcess(_python("import time; print('up', flush=True); time.sleep(1000)", tmp_path))
    child.start()
    _wait_for_log(child, "up")
    os.kill(child.pid, signal.SIGKILL)
    marked_processes.assert_gone()  # without any help from poll() or stop()
    child.stop()


@contextmanager
def _owner(tmp_path: Path, family: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that owns a child (from a thread that has ended meanwhile), and wait until that is up."""
    (tmp_path / "family.py").write_text(family)
    code = f"""if True:
        import signal, sys, threading, time
        from pathlib import Path
        from app.embedded.process import ChildProcess, ProcessSpec, StopSignal
        # a suite in the background of a script, or run by nohup, hands ignored signals down
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        here = Path({str(tmp_path)!r})
        command = (sys.executable, str(here / "family.py"))
        spec = ProcessSpec("program", command, here / "program.log", stop_signals=(StopSignal(15, 0.2),),
                           remove=(here / "left", here / "leftdir"))
        child = ChildProcess(spec)
        thread = threading.Thread(target=child.start)
        thread.start()
        thread.join()
        while "up" not in child.log_tail(): time.sleep(0.02)
        print("owner ready", flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"owner ready\n"
            yield owner
        finally:
            owner.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_a_killed_owner(tmp_path: Path, marked_processes: "MarkedProcesses", number: int) -> None:
    (tmp_path / "left").touch()
    (tmp_path / "leftdir").mkdir()
    with _owner(tmp_path, _FAMILY) as owner:
        assert len(marked_processes.pids()) == 5
        owner.send_signal(number)
        owner.wait()
    marked_processes.assert_gone()
    assert not (tmp_path / "left").exists()
    assert not (tmp_path / "leftdir").exists()


def test_ctrl_c_reaches_the_owner_alone(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    with _owner(tmp_path, _FAMILY) as owner:
        program = marked_processes.find(str(tmp_path / "family.py"))
        # As a terminal does: to the whole foreground process group, of which the program must be no part.
        assert os.getpgid(program) != owner.pid
        os.killpg(owner.pid, signal.SIGINT)
        owner.wait()
    marked_processes.assert_gone()


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = ChildProcess(
        _python("import time; print('up', flush=True); time.sleep(1000)", tmp_path, stop_signals=_QUICK)
    )
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    _wait_for_log(child, "up")
    time.sleep(1.0)  # two of the launcher's looks at its parent
    assert child.poll() is None
    child.stop()


def test_a_child_is_started_once(tmp_path: Path) -> None:
    with (
        ChildProcess(_python("pass", tmp_path)) as child,
        pytest.raises(EmbeddedStackError, match="started already"),
    ):
        child.start()


def test_a_program_that_does_not_end_in_time_is_stopped(tmp_path: Path, marked_processes: "MarkedProcesses") -> None:
    with pytest.raises(ServiceFailedError, match=r"did not end within 0\.2 s"):
        run_to_end(_python("import time; time.sleep(1000)", tmp_path), 0.2)
    marked_processes.assert_gone()


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    log.write_bytes(b"x" * (9 * 2**20))
    run_to_end(_python("print('new')", tmp_path), 30)
    assert log.read_text() == "new\n"
    assert log.with_name("program.log.1").stat().st_size == 9 * 2**20


def test_stop_before_the_start_and_twice(tmp_path: Path) -> None:
    child = ChildProcess(_python("pass", tmp_path))
    child.stop()
    assert child.poll() is None
    child.start()
    child.stop()
    child.stop()
    assert child.poll() is not None


def test_bad_specs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="command of 'empty' is empty"):
        ProcessSpec(name="empty", command=(), log_path=tmp_path / "log")
    with pytest.raises(ValueError, match="at least 0"):
        StopSignal(signal.SIGTERM, -1)
