"""Calls in another process: their results, their errors, and their end."""

import os
import time
from pathlib import Path

import pytest

from worker.nas.child_call import ChildDiedError, call_in_child


class AwkwardError(Exception):
    """Cannot be built from its text alone, as some libraries' errors."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"{reason} {code}")


def awkward() -> None:
    raise AwkwardError("status", 503)


def note_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def nothing() -> None:
    """Wait on."""


def test_results_and_errors_come_back() -> None:
    assert call_in_child(nothing, divmod, 17, 5) == (3, 2)
    with pytest.raises(FileNotFoundError) as caught:
        call_in_child(nothing, os.stat, "/nowhere")
    assert caught.value.errno is not None
    with pytest.raises(RuntimeError, match="AwkwardError: status 503"):
        call_in_child(nothing, awkward)


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(ChildDiedError, match="_exit ended its process with status 3"):
        call_in_child(nothing, os._exit, 3)


def test_nothing_goes_on_after_a_cancellation(tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    def cancel() -> None:
        if noted.exists() and noted.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_in_child(cancel, note_and_sleep, str(noted))
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)
