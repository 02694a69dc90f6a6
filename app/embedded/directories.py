"""Directories of the embedded servers: one owner at a time, private, and short enough for unix sockets."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from app.embedded.errors import DirectoryInUseError, EmbeddedStackError

# sun_path holds 108 bytes with the final NUL; the longest name in there is ".s.PGSQL.5432.lock" (not itself a socket).
_MAX_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PREFIX = "nasatlas-"


class DirectoryLock:
    """An exclusive lock on a directory, held by us and by every program that inherits :attr:`fd`.

    Args:
        path: The lock file, in the directory or beside it. It stays there; only the kernel's lock on it counts.

    The kernel releases it when the last of them is gone, however it went. So whoever gets the lock knows that no
    program of an earlier run still works on the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The open file to hand on to the programs that work on the directory."""
        assert self._fd is not None, "not locked"
        return self._fd

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock, waiting while its holder has died but programs of it still end.

        Raises:
            DirectoryInUseError: Another process holds it (still, after ``timeout_s`` seconds).
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout_s
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                os.close(fd)
                raise DirectoryInUseError(f"{self.path} is locked by process {self.holder() or 'unknown'}")
            time.sleep(0.05)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; it stays held while programs that inherited it run."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_held(self) -> bool:
        """Say whether anybody, we included, holds the lock."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)

    def holder(self) -> int | None:
        """Return the process id of the one that took the lock last."""
        try:
            return int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_socket_directory() -> Path:
    """Create a fresh directory of mode 0700 whose path leaves room for a unix socket's name (107 bytes in all).

    It lies in the temporary directory, or in ``/tmp`` when that path (``TMPDIR``) is too long.

    Raises:
        EmbeddedStackError: Neither can be used.
    """
    reasons: list[str] = []
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 (mkdtemp makes it private)
        try:
            directory = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=parent))
        except OSError as error:
            reasons.append(f"{parent}: {error}")
            continue
        try:
            check_socket_directory(directory)
        except EmbeddedStackError as error:
            directory.rmdir()
            reasons.append(str(error))
            continue
        return directory
    raise EmbeddedStackError(
        "No directory for the servers' unix sockets; set TMPDIR to a short path that you can write to. "
        + "; ".join(reasons)
    )


def check_socket_directory(directory: Path) -> None:
    """Check that a socket in ``directory`` can be named.

    Raises:
        EmbeddedStackError: The path is too long for a unix socket.
    """
    length = len(os.fsencode(directory.absolute() / _LONGEST_SOCKET_NAME))
    if length > _MAX_SOCKET_PATH_BYTES:
        raise EmbeddedStackError(
            f"{directory} is too long for unix sockets ({length} bytes with the socket's name, "
            f"at most {_MAX_SOCKET_PATH_BYTES})"
        )


def remove_socket_directory(directory: Path) -> None:
    """Remove a directory made by :func:`make_socket_directory`; nothing happens if it is gone or is something else."""
    if not directory.name.startswith(_SOCKET_PREFIX) or directory.is_symlink():
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def give_tree(directory: Path, uid: int, gid: int) -> None:
    """Make ``uid`` the owner of a whole tree, the top last, so that an interrupted call is seen and done again.

    Raises:
        EmbeddedStackError: It belongs to somebody else and we may not give it away.
    """
    if directory.stat().st_uid == uid:
        return
    try:
        for parent, folders, files in os.walk(directory, topdown=False):
            for name in (*folders, *files):
                os.chown(Path(parent) / name, uid, gid, follow_symlinks=False)
        os.chown(directory, uid, gid)
    except PermissionError:
        raise EmbeddedStackError(
            f"{directory} belongs to user {directory.stat().st_uid}, but the database runs as user {uid}: "
            f"start as the user who made it, or choose another NASATLAS_STATE_DIR."
        ) from None
