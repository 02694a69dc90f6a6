"""A private Valkey server: the broker of wake-ups when no ``NASATLAS_BROKER_URL`` is given."""

import signal
import time
from pathlib import Path
from urllib.parse import quote

import redis

from app.embedded.binaries import find_valkey
from app.embedded.directories import DirectoryLock, check_socket_directory
from app.embedded.errors import DirectoryInUseError
from app.embedded.identity import SAME_IDENTITY
from app.embedded.lifecycle import Startable
from app.embedded.privileges import create_private_directory
from app.embedded.process import ChildProcess, ProcessSpec, StopSignal

_SOCKET_NAME = "valkey.sock"
_START_TIMEOUT_S = 60.0


class EmbeddedValkey(Startable):
    """A Valkey server with an append-only file, reachable through a unix socket only.

    Args:
        data_dir: Where its append-only file is; made on the first start.
        socket_dir: Where its socket is made, mode 0700, at most about 90 bytes long; removed at the end if empty.
        log_path: Its log; ``valkey.log`` beside the data directory by default.
        predecessor_timeout_s: How long to wait for a server whose owner was killed and that is just ending.
    """

    def __init__(
        self, data_dir: Path, socket_dir: Path, *, log_path: Path | None = None, predecessor_timeout_s: float = 15.0
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._socket_dir = socket_dir.absolute()
        self._log_path = log_path or self._data_dir.parent / "valkey.log"
        self._predecessor_timeout_s = predecessor_timeout_s
        self._lock = DirectoryLock(self._data_dir.with_name(f"{self._data_dir.name}.lock"))
        self._process: ChildProcess | None = None

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self._socket_dir / _SOCKET_NAME

    @property
    def url(self) -> str:
        """The broker URL in the form that Celery (kombu) takes; :func:`redis_py_url` gives redis-py's."""
        return f"redis+socket://{quote(str(self.socket_path))}"

    @property
    def process(self) -> ChildProcess | None:
        """The running server, None before the start and after the stop."""
        return self._process

    def start(self) -> str:
        """Start the server and wait until it has loaded its data.

        Returns:
            The broker URL, ``redis+socket:///...``.

        Raises:
            DirectoryInUseError: Another server works on the data directory.
            EmbeddedStackError: It cannot run here.
        """
        check_socket_directory(self._socket_dir)
        try:
            self._lock.acquire(self._predecessor_timeout_s)
        except DirectoryInUseError as error:
            raise DirectoryInUseError(
                f"Another Valkey server works on {self._data_dir} ({error}): stop it, or use another state directory."
            ) from None
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._socket_dir.exists():
                create_private_directory(self._socket_dir, SAME_IDENTITY)
            self._process = self._run()
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop the server in order (its file is written out). Nothing happens if it is not up."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
        self._lock.release()

    def _run(self) -> ChildProcess:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = ChildProcess(
            ProcessSpec(
                name="valkey",
                command=(str(find_valkey()), *options),
                log_path=self._log_path,
                stop_signals=(StopSignal(signal.SIGTERM, 10.0),),
                death_signal=signal.SIGTERM,
                remove=(self.socket_path, self._socket_dir),
                inherited_fds=(self._lock.fd,),
            )
        )
        process.start()
        return process

    def _wait_until_ready(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            status = process.poll()
            if status is not None:
                raise process.failure(f"ended with status {status} while it started")
            if time.monotonic() > deadline:
                raise process.failure(f"was not ready after {_START_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=5.0) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # not yet there, or still loading (BusyLoadingError)
                return False


def redis_py_url(broker_url: str) -> str:
    """Return the form of a broker URL that redis-py's ``from_url`` takes: it says ``unix://`` where kombu says ``redis+socket://``."""
    scheme, separator, rest = broker_url.partition("://")
    return f"unix://{rest}" if separator and scheme in ("redis+socket", "socket") else broker_url
