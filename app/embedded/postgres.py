"""A private PostgreSQL server: the truth about searches when no ``NASATLAS_DATABASE_URL`` is given."""

import contextlib
import shutil
import signal
import time
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from app.embedded.binaries import find_postgres
from app.embedded.directories import DirectoryLock, check_socket_directory, give_tree
from app.embedded.errors import DirectoryInUseError
from app.embedded.lifecycle import Startable
from app.embedded.privileges import (
    PRIVATE_ROOT,
    Placement,
    PrivilegesMode,
    clean_environment,
    create_private_directory,
    place_postgres,
    privileges_mode,
)
from app.embedded.process import ChildProcess, ProcessSpec, StopSignal, run_to_end
from app.embedded.process_table import is_alive, works_in

USER = "nasatlas"
DATABASE = "nasatlas"
_PORT = 5432  # only a part of the socket's name; nothing listens on a network
_INITDB_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 120.0  # crash recovery after a power cut may take a while on a slow disk
# Small, because it shares the machine with the workers; synchronous_commit stays on, because jobs live in here.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}


class EmbeddedPostgres(Startable):
    """A PostgreSQL server on a data directory of its own, reachable through a unix socket only.

    Args:
        data_dir: Its data; made on the first start. Where PostgreSQL has to run as another user who cannot reach it,
            a symbolic link to the place that was used instead (:mod:`app.embedded.privileges`).
        socket_dir: Where its socket is made, mode 0700, at most about 90 bytes long; removed at the end if empty.
        log_path: Its log; ``postgres.log`` beside the data directory by default.
        privileges: As whom to run; by default what ``NASATLAS_EMBEDDED_PRIVILEGES`` says.
        private_root: Where programs and data go that the other user cannot reach otherwise.
        durable: False only for tests: faster, loses data when the machine goes down.
        predecessor_timeout_s: How long to wait for a server whose owner was killed and that is just ending.
    """

    def __init__(
        self,
        data_dir: Path,
        socket_dir: Path,
        *,
        log_path: Path | None = None,
        privileges: PrivilegesMode | None = None,
        private_root: Path = PRIVATE_ROOT,
        durable: bool = True,
        predecessor_timeout_s: float = 15.0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._socket_dir = socket_dir.absolute()
        self._log_path = log_path or self._data_dir.parent / "postgres.log"
        self._privileges = privileges
        self._private_root = private_root
        self._settings = _SETTINGS | ({} if durable else _THROWAWAY_SETTINGS)
        # A throwaway database need not reach the disk, which takes most of initdb's time on a busy machine.
        self._initdb_options = () if durable else ("--no-sync",)
        self._predecessor_timeout_s = predecessor_timeout_s
        self._lock = DirectoryLock(self._data_dir.with_name(f"{self._data_dir.name}.lock"))
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database ``nasatlas``."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the SQLAlchemy URL of another database of this server."""
        url = URL.create("postgresql+psycopg", username=USER, database=database, query={"host": str(self._socket_dir)})
        return url.render_as_string(hide_password=False)

    @property
    def process(self) -> ChildProcess | None:
        """The running server, None before the start and after the stop."""
        return self._process

    def start(self) -> str:
        """Start the server, on the first start after making its data directory.

        Returns:
            The URL of the database ``nasatlas``, which exists.

        Raises:
            DirectoryInUseError: Another server works on the data directory.
            EmbeddedStackError: It cannot run here; the message says what would help.
        """
        check_socket_directory(self._socket_dir)
        try:
            # A predecessor whose owner was killed may still be ending; its programs hold the lock until then.
            self._lock.acquire(self._predecessor_timeout_s)
        except DirectoryInUseError as error:
            raise DirectoryInUseError(
                f"Another PostgreSQL server works on {self._data_dir} ({error}): "
                "stop it, or use another state directory."
            ) from None
        try:
            placement = place_postgres(
                find_postgres(), self._data_dir, self._privileges or privileges_mode(), self._private_root
            )
            self._prepare(placement)
            self._process = self._run(placement)
            self._wait_until_ready(self._process, placement.data_dir)
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop the server in order (open transactions are rolled back). Nothing happens if it is not up."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
        self._lock.release()

    def _prepare(self, placement: Placement) -> None:
        create_private_directory(self._socket_dir, placement.identity)
        data_dir = placement.data_dir
        if data_dir.exists():
            give_tree(data_dir, placement.identity.owner_uid, placement.identity.owner_gid)
            self._remove_stale_pid_file(data_dir)
            return
        # Renamed when complete: a data directory is there whole or not at all.
        scratch = data_dir.with_name(data_dir.name + ".incomplete")
        if scratch.exists():
            shutil.rmtree(scratch)
        create_private_directory(scratch, placement.identity)
        initdb = str(placement.binaries.program("initdb"))
        options = ("--encoding=UTF8", "--locale=C", "--auth=trust", f"--username={USER}", "--no-instructions")
        spec = ProcessSpec(
            name="initdb",
            command=(initdb, "-D", str(scratch), *options, *self._initdb_options),
            log_path=self._log_path,
            env=clean_environment(),
            identity=placement.identity,
            inherited_fds=(self._lock.fd,),
        )
        run_to_end(spec, _INITDB_TIMEOUT_S)
        scratch.rename(data_dir)

    def _remove_stale_pid_file(self, data_dir: Path) -> None:
        """Remove ``postmaster.pid`` unless its process really is a server on this directory.

        PostgreSQL does so by itself only when no process of that number is alive; after a restart of a container
        the number usually belongs to something else.
        """
        pid_file = data_dir / "postmaster.pid"
        pid = _first_line_number(pid_file)
        if pid is None:
            return
        if is_alive(pid) and works_in(pid, data_dir):
            raise DirectoryInUseError(
                f"Another PostgreSQL server (process {pid}) works on {data_dir}: "
                "stop it, or use another state directory."
            )
        pid_file.unlink()

    def _run(self, placement: Placement) -> ChildProcess:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        location = ["-D", str(placement.data_dir), "-k", str(self._socket_dir), "-p", str(_PORT)]
        socket_name = f".s.PGSQL.{_PORT}"
        process = ChildProcess(
            ProcessSpec(
                name="postgres",
                command=(str(placement.binaries.program("postgres")), *location, *settings),
                log_path=self._log_path,
                env=clean_environment(),
                # Fast shutdown, then immediate shutdown (recovered from at the next start).
                stop_signals=(StopSignal(signal.SIGINT, 20.0), StopSignal(signal.SIGQUIT, 6.0)),
                death_signal=signal.SIGINT,
                identity=placement.identity,
                remove=(self._socket_dir / socket_name, self._socket_dir / f"{socket_name}.lock", self._socket_dir),
                inherited_fds=(self._lock.fd,),
            )
        )
        process.start()
        return process

    def _wait_until_ready(self, process: ChildProcess, data_dir: Path) -> None:
        pid_file = data_dir / "postmaster.pid"
        deadline = time.monotonic() + _START_TIMEOUT_S
        while _status_line(pid_file) != "ready":
            status = process.poll()
            if status is not None:
                raise process.failure(f"ended with status {status} while it started")
            if time.monotonic() > deadline:
                raise process.failure(f"was not ready after {_START_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def _create_database(self) -> None:
        with (
            contextlib.closing(
                psycopg.connect(
                    host=str(self._socket_dir), port=_PORT, user=USER, dbname="postgres", password="", autocommit=True
                )
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _first_line_number(pid_file: Path) -> int | None:
    try:
        return abs(int(pid_file.read_text().splitlines()[0]))
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _status_line(pid_file: Path) -> str | None:
    """Return the server's state as it writes it into the eighth line of ``postmaster.pid``."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return None
    return lines[7].strip() if len(lines) > 7 else None
