"""When a program of the stack is started again, and when it is given up."""

import signal
import sys
import time
from pathlib import Path

from app.embedded.process import ChildProcess, ProcessSpec
from app.embedded.supervision import MAX_SHORT_LIVES, SHORT_LIFE_S, Supervised


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _started(directory: Path, code: str) -> ChildProcess:
    child = ChildProcess(ProcessSpec("program", (sys.executable, "-c", code), directory / "log"))
    child.start()
    return child


def _end(program: Supervised) -> None:
    deadline = time.monotonic() + 30
    while program.failure() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_ends_quickly_again_and_again_is_given_up(tmp_path: Path) -> None:
    clock = _Clock()
    program = Supervised(
        _started(tmp_path, "raise SystemExit(7)"), lambda: _started(tmp_path, "raise SystemExit(8)"), clock
    )
    for _ in range(MAX_SHORT_LIVES - 1):
        _end(program)
        assert program.start_again()
    _end(program)
    assert not program.start_again()
    failure = program.failure()
    assert failure is not None
    assert (failure.name, failure.exit_status) == ("program", 8)


def test_what_lived_long_is_always_started_again(tmp_path: Path) -> None:
    clock = _Clock()
    program = Supervised(_started(tmp_path, ""), lambda: _started(tmp_path, ""), clock)
    for _ in range(2 * MAX_SHORT_LIVES):
        _end(program)
        clock.now_s += SHORT_LIFE_S
        assert program.start_again()
    program.process.stop()


def test_a_running_program_has_not_failed(tmp_path: Path) -> None:
    program = Supervised(_started(tmp_path, "import time; time.sleep(1000)"), lambda: _started(tmp_path, ""))
    assert program.failure() is None
    program.process.spec.log_path.write_text("said something")
    program.process.stop()
    failure = program.failure()
    assert failure is not None
    assert failure.exit_status == 128 + signal.SIGTERM
