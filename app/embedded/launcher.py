"""The guardian between the stack and each of its programs: whatever dies, nothing stays behind.

The stack starts ``launcher`` in a session of its own; the launcher starts the program and stays beside it. It ends the
program, and everything that descends from it, when it is told to (SIGTERM), when the stack's process is gone (also by
SIGKILL), or when the program itself has ended. Should the launcher be killed, the kernel signals the program
(PR_SET_PDEATHSIG; the launcher has one thread, so "parent thread" and "parent process" are the same for it).

It is a program, not a ``preexec_fn``: code between fork and exec of a process that has threads may deadlock. It uses
the standard library only and starts in about 20 ms (``python -I -S``).
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.embedded.process_table import descendants

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWUSER = 0x10000000
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PARENT_CHECK_MS = 500


@dataclass(frozen=True)
class LaunchOptions:
    """What the stack tells the launcher, as one JSON argument.

    Attributes:
        parent_pid: The stack's process; the program ends when it does.
        stop_signals: Signals to send in turn, each with the seconds to wait before the next; SIGKILL comes last anyway.
        death_signal: What the kernel sends to the program when the launcher is killed.
        identity: ``{"kind": "same"}``, ``{"kind": "namespace", "uid", "gid"}`` or ``{"kind": "drop", "uid", "gid"}``.
        remove: Files to unlink and directories to remove, if empty, once the program has ended.
    """

    parent_pid: int
    stop_signals: list[tuple[int, float]]
    death_signal: int
    identity: dict[str, Any]
    remove: list[str]


def main(arguments: list[str]) -> int:
    """Run one program until it ends or has to.

    Args:
        arguments: The :class:`LaunchOptions` as JSON, then the program and its arguments.

    Returns:
        The program's exit status, 128 + n when signal n ended it.
    """
    options = LaunchOptions(**json.loads(arguments[0]))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the program's orphans become our children, so that none escapes
    with _Events(options.parent_pid) as events:
        program_pid = _start(options, arguments[1:])
        status = _attend(program_pid, options, events)
    _remove(options.remove)
    return status


class _Events:
    """The three things that can happen: the stack is gone, we were told to stop, a child ended."""

    def __init__(self, parent_pid: int) -> None:
        self._parent_pid = parent_pid
        self._told_to_stop = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        # A process descriptor makes the stack's death known at once; without one (an old kernel, a strict container)
        # getppid() below sees it half a second later.
        with contextlib.suppress(OSError):
            self._poll.register(os.pidfd_open(parent_pid), select.POLLIN)

    def __enter__(self) -> "_Events":
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(-1)

    def _on_stop_signal(self, *_: object) -> None:
        self._told_to_stop = True

    def orphaned(self) -> bool:
        return os.getppid() != self._parent_pid

    def take_stop(self) -> bool:
        """Say whether a stop was asked for since the last call."""
        told, self._told_to_stop = self._told_to_stop, False
        return told

    def wait(self, timeout_s: float | None = None) -> None:
        timeout_ms = _PARENT_CHECK_MS if timeout_s is None else min(_PARENT_CHECK_MS, int(timeout_s * 1000) + 1)
        for descriptor, _ in self._poll.poll(timeout_ms):
            if descriptor == self._wake_read:
                os.read(self._wake_read, 4096)
            else:
                self._poll.unregister(descriptor)  # readable for ever once the stack is gone


def _attend(program_pid: int, options: LaunchOptions, events: _Events) -> int:
    status = _reap(program_pid)
    while status is None and not events.orphaned() and not events.take_stop():
        events.wait()
        status = _reap(program_pid)
    if status is None:
        status = _stop(program_pid, options.stop_signals, events)
    killed = _kill_descendants(program_pid)
    if status is None:
        status = killed
    assert status is not None, "the program was neither seen to end nor killed"
    return status if status >= 0 else 128 - status


def _stop(program_pid: int, stop_signals: list[tuple[int, float]], events: _Events) -> int | None:
    """Send the signals in turn; a further stop request skips to the next one. None: it still runs after all of them."""
    for number, grace_s in stop_signals:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program_pid, number)
        deadline = time.monotonic() + grace_s
        while True:
            status = _reap(program_pid)
            if status is not None:
                return status
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or events.take_stop():
                break
            events.wait(remaining_s)
    return None


def _reap(program_pid: int) -> int | None:
    """Collect every child that ended, adopted ones too; return the program's exit code if it was among them."""
    result = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == program_pid:
                result = os.waitstatus_to_exitcode(status)
    return result


def _kill_descendants(program_pid: int) -> int | None:
    """SIGKILL everything below us until nothing is left; return the program's exit code if it was collected here."""
    result = None
    me = os.getpid()
    while True:
        for pid in descendants(me):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = _reap(program_pid)
        result = status if status is not None else result
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return result
        time.sleep(0.01)


def _start(options: LaunchOptions, command: list[str]) -> int:
    launcher_pid = os.getpid()
    # until the child has let go of our handlers, a stop signal for the program would run them there, and be lost
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    program_pid = os.fork()
    if program_pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return program_pid
    try:
        for number in (*_HANDLED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setpgid(0, 0)
        _become(options.identity)
        # After the change of identity, which clears it; then look whether the launcher died before it was set.
        _prctl(_PR_SET_PDEATHSIG, options.death_signal)
        if os.getppid() != launcher_pid:
            os._exit(1)
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        os.write(2, f"launcher: cannot run {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _become(identity: dict[str, Any]) -> None:
    if identity["kind"] == "namespace":
        _enter_user_namespace(identity["uid"], identity["gid"])
    elif identity["kind"] == "drop":
        os.setgroups([])
        os.setresgid(identity["gid"], identity["gid"], identity["gid"])
        os.setresuid(identity["uid"], identity["uid"], identity["uid"])


def _enter_user_namespace(inside_uid: int, inside_gid: int) -> None:
    """Become ``inside_uid`` in a user namespace; outside we stay who we are, and our files stay ours."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no user namespace: {os.strerror(number)}")
    # The kernel wants setgroups denied before an unprivileged process may map a group.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside_uid} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside_gid} {outside_gid} 1")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _remove(paths: list[str]) -> None:
    for path in map(Path, paths):
        # Gone already, or a directory that others still use: both are fine.
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
