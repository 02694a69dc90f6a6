"""The embedded PostgreSQL: first start, restarts, kills, stale files, and every way to an identity it accepts."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from app.embedded.directories import make_socket_directory, remove_socket_directory
from app.embedded.errors import DirectoryInUseError, EmbeddedStackError, PrivilegesError
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.privileges import PrivilegesMode, place_postgres
from app.embedded.process_table import works_in

if TYPE_CHECKING:
    from tests.conftest import MarkedProcesses

_IS_ROOT = os.geteuid() == 0

_OWNER = """
import sys, time
from pathlib import Path
from app.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]))
print(server.start(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A short directory for the socket."""
    directory = make_socket_directory()
    yield directory
    remove_socket_directory(directory)


@pytest.fixture
def public_dir(marked_processes: "MarkedProcesses") -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp())
    marked_processes.directories.append(directory)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """The umask of hardened machines: what we create is closed to others unless we open it."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as the first start leaves it."""
    data_dir = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(data_dir, make_socket_directory()):
        pass
    return data_dir


@pytest.fixture
def data_dir(tmp_path: Path, made_database: Path) -> Path:
    """A data directory of a server that ran before."""
    shutil.copytree(made_database, tmp_path / "postgres")
    return tmp_path / "postgres"


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _setting(url: str, name: str) -> str:
    with psycopg.connect(_address(url)) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _write(url: str, value: int) -> None:
    with psycopg.connect(_address(url)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))


def _read(url: str) -> list[int]:
    with psycopg.connect(_address(url)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def test_first_start_restart_and_settings(
    tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    data_dir = tmp_path / "postgres"
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        engine = create_engine(server.url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar() == "nasatlas"
        engine.dispose()
        expected = {
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "shared_buffers": "256MB",
            "max_connections": "100",
            "jit": "off",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "TimeZone": "UTC",
        }
        assert {name: _setting(server.url, name) for name in expected} == expected
        with psycopg.connect(_address(server.url)) as connection:
            row = connection.execute(
                "SELECT datcollate, datctype FROM pg_database WHERE datname = 'nasatlas'"
            ).fetchone()
        assert row == ("C", "C")
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        _write(server.url, 1)
    assert marked_processes.pids() == {}
    assert not socket_dir.exists()
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        assert _read(server.url) == [1]


def test_open_transactions_do_not_hold_up_the_stop(data_dir: Path, socket_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        _write(server.url, 1)
        connection = psycopg.connect(_address(server.url))
        connection.execute("INSERT INTO kept VALUES (2)")
    connection.close()
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        assert _read(server.url) == [1]


def test_half_made_data_directory_is_made_again(tmp_path: Path, socket_dir: Path) -> None:
    # What a kill in the middle of initdb leaves.
    half = tmp_path / "postgres.incomplete"
    (half / "base").mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    with EmbeddedPostgres(tmp_path / "postgres", socket_dir) as server:
        _write(server.url, 1)
    assert not half.exists()


def test_kill_in_the_middle_of_initdb(tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses") -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path / "postgres"), str(socket_dir)]) as owner:
        marked_processes.find("initdb")
        owner.kill()
    assert not (tmp_path / "postgres").exists()
    with EmbeddedPostgres(tmp_path / "postgres", socket_dir) as server:  # at once: initdb may still be ending
        _write(server.url, 1)
    marked_processes.assert_gone()


def test_killed_owner(data_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses") -> None:
    command = [sys.executable, "-c", _OWNER, str(data_dir), str(socket_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        _write(url, 1)
        with pytest.raises(DirectoryInUseError, match=rf"(?s)Another PostgreSQL server works on .*process {owner.pid}"):
            EmbeddedPostgres(data_dir, socket_dir, predecessor_timeout_s=0.2).start()
        owner.kill()
    marked_processes.assert_gone()
    assert not socket_dir.exists(), "the guardian removes what the owner could not"
    assert not (data_dir / "postmaster.pid").exists(), "it was stopped in order"
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        assert _read(server.url) == [1]


def test_killed_guardian(data_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses") -> None:
    server = EmbeddedPostgres(data_dir, socket_dir)
    _write(server.start(), 1)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    marked_processes.assert_gone()  # the kernel told the postmaster to shut down
    server.stop()
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        assert _read(server.url) == [1]


@pytest.mark.parametrize("also_backends", [False, True])
def test_killed_postmaster(
    data_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses", also_backends: bool
) -> None:
    server = EmbeddedPostgres(data_dir, socket_dir)
    _write(server.start(), 1)
    victims = [pid for pid in marked_processes.pids() if works_in(pid, data_dir)] if also_backends else []
    assert len(victims) > 3 or not also_backends, "the postmaster, its checkpointer, writers and so on"
    for pid in {_postmaster(data_dir), *victims}:
        with contextlib.suppress(ProcessLookupError):  # without the postmaster the others may be gone already
            os.kill(pid, signal.SIGKILL)
    marked_processes.assert_gone()
    assert server.process is not None
    assert server.process.poll() == 137
    assert (data_dir / "postmaster.pid").exists(), "stale now"
    server.stop()
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        assert _read(server.url) == [1]


def test_stale_pid_file_whose_number_belongs_to_another_program(data_dir: Path, socket_dir: Path) -> None:
    # After a restart of a container the old number usually belongs to something else. PostgreSQL would refuse.
    with subprocess.Popen(["sleep", "1000"]) as other:
        (data_dir / "postmaster.pid").write_text(
            f"{other.pid}\n{data_dir}\n1700000000\n5432\n/tmp\n\n  1 2\nready   \n"
        )
        with EmbeddedPostgres(data_dir, socket_dir) as server:
            _write(server.url, 1)
        assert other.poll() is None
        other.kill()


def test_a_server_that_somebody_started_by_hand_is_left_alone(data_dir: Path, socket_dir: Path) -> None:
    with subprocess.Popen(["sleep", "1000"], cwd=data_dir) as other:  # works in the data directory, as a server does
        (data_dir / "postmaster.pid").write_text(f"{other.pid}\n{data_dir}\n")
        with pytest.raises(DirectoryInUseError, match=f"process {other.pid}"):
            EmbeddedPostgres(data_dir, socket_dir).start()
        assert (data_dir / "postmaster.pid").exists()
        other.kill()


def test_a_broken_data_directory_shows_the_servers_words(
    data_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    (data_dir / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedStackError, match=r"(?s)postgres ended with status 2 while it started.*pg_control"):
        EmbeddedPostgres(data_dir, socket_dir).start()
    assert marked_processes.pids() == {}


def test_variables_of_other_servers_do_not_leak_in(
    data_dir: Path, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "elsewhere", "LC_ALL": "xx_XX"}.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(data_dir, socket_dir) as server:
        monkeypatch.delenv("PGPORT")
        _write(server.url, 1)


_as_root = pytest.mark.skipif(not _IS_ROOT, reason="PostgreSQL runs as the user that we are; only root needs a way out")


@_as_root
@pytest.mark.parametrize("mode", ["namespace", "drop"])
def test_root_runs_it_as_nobody(
    public_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses", mode: PrivilegesMode
) -> None:
    data_dir = public_dir / "state" / "postgres"
    options = {"privileges": mode, "private_root": public_dir / "private"}
    with EmbeddedPostgres(data_dir, socket_dir, **options) as server:  # type: ignore[arg-type]
        _write(server.url, 1)
        status = Path(f"/proc/{_postmaster(data_dir)}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert data_dir.stat().st_uid == (0 if mode == "namespace" else 65534)
        assert not data_dir.is_symlink(), "nobody can reach it"
    assert marked_processes.pids() == {}
    assert not socket_dir.exists()
    with EmbeddedPostgres(data_dir, socket_dir, **options) as server:  # type: ignore[arg-type]
        assert _read(server.url) == [1]


@_as_root
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["namespace", "drop"])
def test_kernel_signals_it_whatever_identity_it_has(
    public_dir: Path, socket_dir: Path, marked_processes: "MarkedProcesses", mode: PrivilegesMode, number: int
) -> None:
    server = EmbeddedPostgres(public_dir / "postgres", socket_dir, privileges=mode, private_root=public_dir / "private")
    server.start()
    assert server.process is not None
    os.kill(server.process.pid, number)
    marked_processes.assert_gone()
    server.stop()


@_as_root
def test_drop_moves_out_of_a_place_that_nobody_can_reach(
    tmp_path: Path,
    public_dir: Path,
    socket_dir: Path,
    marked_processes: "MarkedProcesses",
    strict_umask: None,
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    data_dir = home / "state" / "postgres"
    private_root = public_dir / "private"
    with EmbeddedPostgres(data_dir, socket_dir, privileges="drop", private_root=private_root) as server:
        _write(server.url, 1)
        assert data_dir.is_symlink()
        assert data_dir.resolve().is_relative_to(private_root)
    # The same data, whichever way is open next time.
    with EmbeddedPostgres(data_dir, socket_dir, privileges="namespace", private_root=private_root) as server:
        assert _read(server.url) == [1]
    with EmbeddedPostgres(data_dir, socket_dir, privileges="drop", private_root=private_root) as server:
        assert _read(server.url) == [1]
    assert marked_processes.pids() == {}


@_as_root
def test_drop_copies_programs_that_nobody_can_reach(tmp_path: Path, public_dir: Path, strict_umask: None) -> None:
    from app.embedded.binaries import find_postgres

    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    found = find_postgres()
    for part in (found.prefix, found.libraries):
        shutil.copytree(found.wheel_root / part, hidden / part, symlinks=True)
    subprocess.run(["chmod", "-R", "go=", str(hidden)], check=True)  # as if installed under that umask
    private_root = public_dir / "private"
    for _ in range(2):  # made, then found
        placement = place_postgres(found.under(hidden), public_dir / "postgres", "drop", private_root)
        assert placement.binaries.program("initdb").is_relative_to(private_root)
    assert [path.name for path in (private_root / "programs").iterdir()] == [found.version]


@_as_root
def test_namespace_data_are_not_lost_to_drop(tmp_path: Path, public_dir: Path, socket_dir: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with EmbeddedPostgres(home / "postgres", socket_dir, privileges="namespace"):
        pass
    with pytest.raises(PrivilegesError, match="holds data, but user 65534 cannot reach it"):
        EmbeddedPostgres(home / "postgres", socket_dir, privileges="drop", private_root=public_dir / "private").start()
