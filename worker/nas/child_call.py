"""Calls of native code that never looks up, e.g. a download or a graph export, in a process that can be killed.

The caller waits and reports, so that a cancellation is seen within a second and nothing goes on after it. The process
also ends when its parent dies.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

_POLL_S = 0.5
_CALL, _ANSWER = "call", "answer"

P = ParamSpec("P")
T = TypeVar("T")


class ChildDiedError(RuntimeError):
    """The process ended without an answer, e.g. for a lack of memory."""


def call_in_child(
    on_wait: Callable[[], None], function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs
) -> T:
    """Return what a function returns that runs in a new process, or raise what it raises.

    Args:
        on_wait: Called about twice a second; what it raises ends the process at once.
        function: Importable by its name; it does not see what this process has changed in modules.
        arguments: Of the function; like its result, of kinds that pickle takes.
        options: Likewise.

    Raises:
        ChildDiedError: If the process ends without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="nasatlas-call-") as name:
        directory = Path(name)
        (directory / _CALL).write_bytes(pickle.dumps((function, arguments, options)))
        with _process(directory) as process:
            while process.poll() is None:
                on_wait()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        if not (directory / _ANSWER).exists():
            raise ChildDiedError(f"{function.__qualname__} ended its process with status {process.returncode}")
        # written by our own process into a directory that nobody else may enter
        result, error = pickle.loads((directory / _ANSWER).read_bytes())  # noqa: S301
    if error is not None:
        raise error
    answer: T = result
    return answer


@contextlib.contextmanager
def _process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process in a group of its own, all of which is killed on the way out; its input is its leash."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(directory)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def main(directory: Path) -> None:
    """Make the call that lies in a directory, and leave the answer there: what the new process runs."""
    threading.Thread(target=_follow_leash, name="leash", daemon=True).start()
    function, arguments, options = pickle.loads((directory / _CALL).read_bytes())  # noqa: S301
    answer: tuple[Any, Exception | None]
    try:
        answer = (function(*arguments, **options), None)
    except Exception as error:
        # raised again where the call came from
        answer = (None, _portable(error))
    unfinished = directory / f"{_ANSWER}.unfinished"
    unfinished.write_bytes(pickle.dumps(answer))
    unfinished.rename(directory / _ANSWER)


def _follow_leash() -> None:
    """End this process as soon as its parent has died, even inside of native code."""
    os.read(0, 1)
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """Some exceptions cannot be built again from what pickle keeps of them."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(Path(sys.argv[1]))
