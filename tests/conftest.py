"""Real servers for every test that needs them: PostgreSQL and Valkey from their wheels, one of each per test run.

``database_url`` is a fresh database with the whole schema, made from a template in some 50 ms.
"""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy import make_url

from app.embedded.directories import make_socket_directory, remove_socket_directory
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process_table import process_table
from app.embedded.valkey import EmbeddedValkey

# no test looks at the clock
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TEST_DATABASE_VARIABLE = "NASATLAS_TEST_DATABASE_URL"
TEST_BROKER_VARIABLE = "NASATLAS_TEST_BROKER_URL"


class DatabaseServer:
    """A PostgreSQL server on which tests make and drop databases.

    Attributes:
        url: SQLAlchemy URL of a database that stays, used to make the others.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def url_of(self, name: str) -> str:
        """Return the URL of another database of this server."""
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def create(self, template: str | None = None, encoding: str | None = None) -> str:
        """Create a database, empty or as a copy of ``template``, and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        if encoding is not None:
            statement += sql.SQL(" ENCODING {}").format(sql.Literal(encoding))
        self._execute(statement)
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        address = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """A PostgreSQL server: the one at ``NASATLAS_TEST_DATABASE_URL``, or our own for the time of the test run."""
    given = os.environ.get(TEST_DATABASE_VARIABLE)
    if given:
        yield DatabaseServer(given)
        return
    socket_dir = make_socket_directory()
    try:
        with EmbeddedPostgres(tmp_path_factory.mktemp("database") / "postgres", socket_dir, durable=False) as server:
            yield DatabaseServer(server.url)
    finally:
        remove_socket_directory(socket_dir)


@pytest.fixture(scope="session")
def database_template(database_server: DatabaseServer) -> Iterator[str]:
    """The name of a database with the whole schema and no rows, to copy from; nobody may be connected to it."""
    from app.db.migrate import migrate

    name = database_server.create()
    migrate(database_server.url_of(name))
    yield name
    database_server.drop(name)


@pytest.fixture
def empty_database_url(database_server: DatabaseServer) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh database without a schema, for the tests of the migrations."""
    name = database_server.create()
    yield database_server.url_of(name)
    database_server.drop(name)


@pytest.fixture
def database_url(database_server: DatabaseServer, database_template: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, migrated database for one test."""
    name = database_server.create(database_template)
    yield database_server.url_of(name)
    database_server.drop(name)


@pytest.fixture(scope="module")
def module_database_url(database_server: DatabaseServer, database_template: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, migrated database shared by the tests of one module."""
    name = database_server.create(database_template)
    yield database_server.url_of(name)
    database_server.drop(name)


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Celery broker URL: the one at ``NASATLAS_TEST_BROKER_URL``, or a Valkey server of our own."""
    given = os.environ.get(TEST_BROKER_VARIABLE)
    if given:
        yield given
        return
    socket_dir = make_socket_directory()
    try:
        with EmbeddedValkey(tmp_path_factory.mktemp("broker") / "valkey", socket_dir) as server:
            yield server.url
    finally:
        remove_socket_directory(socket_dir)


class MarkedProcesses:
    """Every process that was started, however indirectly, by one test.

    They have a mark in their environment, or work below one of the test's directories: servers that show their state
    in the process title (PostgreSQL's backends, Valkey) write it over their environment.
    """

    def __init__(self, mark: str, directory: Path) -> None:
        self.mark = mark
        self.directories = [directory]

    def pids(self) -> dict[int, str]:
        """Return the live ones, with their command lines; zombies have no environment and do not count."""
        found = {}
        for entry in process_table():
            with contextlib.suppress(OSError):
                if self._is_marked(Path(f"/proc/{entry.pid}")):
                    command = Path(f"/proc/{entry.pid}/cmdline").read_bytes()
                    found[entry.pid] = command.replace(b"\0", b" ").decode(errors="replace")
        found.pop(os.getpid(), None)
        return found

    def _is_marked(self, entry: Path) -> bool:
        if self.mark.encode() in (entry / "environ").read_bytes():
            return True
        # Not resolved: the kernel appends " (deleted)" for a directory that is gone, its process may still be there.
        work_dir = (entry / "cwd").readlink()
        return any(work_dir.is_relative_to(directory) for directory in self.directories)

    def find(self, text: str) -> int:
        """Return the one process whose command line contains ``text``, waiting for it to appear."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = [pid for pid, command in self.pids().items() if text in command and "launcher" not in command]
            if found:
                return min(found)
            time.sleep(0.05)
        raise AssertionError(f"no process with {text!r} among {self.pids()}")

    def assert_gone(self, timeout_s: float = 30) -> None:
        """Wait until none is left, and fail if that does not happen."""
        deadline = time.monotonic() + timeout_s
        while self.pids():
            assert time.monotonic() < deadline, f"still there: {self.pids()}"
            time.sleep(0.05)


@pytest.fixture
def marked_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MarkedProcesses]:
    """Marks the environment of this test, to find what it left in the process table (and to kill that at its end)."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("NASATLAS_TEST_MARK", mark)
    marked = MarkedProcesses(mark, tmp_path)
    yield marked
    for pid in marked.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
