"""The stack as one thing: up, down, killed, doubled, broken; with small stand-ins for the services themselves."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from app.embedded.directories import make_socket_directory
from app.embedded.errors import DirectoryInUseError, EmbeddedStackError
from app.embedded.interruption import Interrupted, signals_as_interrupt
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process import StopSignal
from app.embedded.running_stack import find_running_stack
from app.embedded.services import ServicePlan, ServiceSpec
from app.embedded.stack import Stack
from app.embedded.valkey import redis_py_url

if TYPE_CHECKING:
    from tests.conftest import MarkedProcesses

_MAX_STOP_S = 60.0

_API = textwrap.dedent("""
    import http.server, json, os, sys  # stand-in api
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({k: v for k, v in os.environ.items() if k.startswith("NASATLAS_")}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
""")
_WORKER = textwrap.dedent("""
    import signal, subprocess, sys, time  # stand-in worker
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)  # pool child"], start_new_session=True)
    time.sleep(1000)
""")
_OWNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import importlib.util
spec = importlib.util.spec_from_file_location("stand_ins", sys.argv[3])
stand_ins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stand_ins)
stand_ins.own_a_stack(Path(sys.argv[1]))
"""


def _services(plan: ServicePlan) -> Sequence[ServiceSpec]:
    api = ServiceSpec("api", (sys.executable, "-c", _API, plan.api_host, str(plan.api_port)))
    worker = ServiceSpec("worker", (sys.executable, "-c", _WORKER), (StopSignal(signal.SIGTERM, 0.2),))
    return (api, worker) if plan.with_workers else (api,)


def _count_starts(database_url: str) -> None:
    """Stands for the migrations, and leaves something in the database that can be counted."""
    with psycopg.connect(_address(database_url)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO starts DEFAULT VALUES")


def _num_starts(database_url: str) -> int:
    with psycopg.connect(_address(database_url)) as connection:
        row = connection.execute("SELECT count(*) FROM starts").fetchone()
    assert row is not None
    return int(row[0])


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _stack(state_dir: Path, **options: object) -> Stack:
    return Stack(state_dir, services=_services, migrate=_count_starts, **options)  # type: ignore[arg-type]


def own_a_stack(state_dir: Path) -> None:
    """Run a stack until a signal comes; run in a process of its own by :func:`_owner`."""
    # a suite in the background of a script, or run by nohup, hands ignored signals down, and then they stay ignored
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        with signals_as_interrupt(), _stack(state_dir) as stack:
            print("url", stack.url, flush=True)  # noqa: T201
            stack.wait()
    except Interrupted as interruption:
        sys.exit(interruption.exit_status)


@contextmanager
def _owner(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a stack in a process of its own and wait until it is up."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _OWNER, str(state_dir), root, __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as owner:
        try:
            assert owner.stdout is not None
            line = owner.stdout.readline()
            assert line.startswith("url"), f"{line} {owner.stderr and owner.stderr.read()}"
            yield owner
        finally:
            owner.kill()


@pytest.fixture
def temp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of this test alone, so that what is left in it can be seen; it is short, for sockets."""
    monkeypatch.delenv("NASATLAS_DATABASE_URL", raising=False)
    monkeypatch.delenv("NASATLAS_BROKER_URL", raising=False)
    monkeypatch.delenv("NASATLAS_ARTIFACT_URL", raising=False)
    directory = tmp_path / "t"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


@pytest.fixture(scope="module")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as the first start leaves it: copying it is faster than making it once per test."""
    socket_dir = make_socket_directory()
    data_dir = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(data_dir, socket_dir):
        pass
    return data_dir


@pytest.fixture
def state_dir(tmp_path: Path, temp_dir: Path, made_database: Path) -> Path:
    """The state directory of a stack that ran before."""
    shutil.copytree(made_database, tmp_path / "state" / "postgres")
    return tmp_path / "state"


def test_up_and_down(tmp_path: Path, temp_dir: Path, marked_processes: "MarkedProcesses") -> None:
    state_dir = tmp_path / "state"
    phases: list[str] = []
    with _stack(state_dir, on_phase=phases.append) as stack:
        with urllib.request.urlopen(f"{stack.url}/readyz") as answer:
            environment = json.load(answer)
        assert environment["NASATLAS_DATABASE_URL"] == stack.running.database_url
        assert environment["NASATLAS_BROKER_URL"] == stack.running.broker_url
        assert environment["NASATLAS_STATE_DIR"] == str(state_dir)
        assert environment["NASATLAS_ARTIFACT_URL"] == f"file://{state_dir}/artifacts"
        assert _num_starts(stack.running.database_url) == 1
        with redis.Redis.from_url(redis_py_url(stack.running.broker_url)) as client:
            client.set("kept", "yes")
        assert find_running_stack(state_dir) == stack.running
        assert (state_dir / "stack.json").stat().st_mode & 0o777 == 0o600
        assert stack.failures() == []
        assert stack.wait(0.1) == []
        running = marked_processes.pids().values()
        for title in ("postgres: checkpointer", "valkey-server", "stand-in api", "stand-in worker", "pool child"):
            assert any(title in command for command in running), title
    assert phases[0] == "creating the database (first start only)"
    assert phases[-1] == "stopping"
    assert marked_processes.pids() == {}
    assert list(temp_dir.iterdir()) == []
    assert find_running_stack(state_dir) is None
    assert not (state_dir / "stack.json").exists()

    with _stack(state_dir) as stack:
        assert _num_starts(stack.running.database_url) == 2
        with redis.Redis.from_url(redis_py_url(stack.running.broker_url)) as client:
            assert client.get("kept") == b"yes"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses", number: signal.Signals
) -> None:
    with _owner(state_dir) as owner:
        # As the terminal does it: to the whole process group, and more than once.
        os.killpg(owner.pid, number)
        os.killpg(owner.pid, number)
        _, complaints = owner.communicate(timeout=_MAX_STOP_S)
    assert (owner.returncode, complaints) == (128 + number, "")
    assert marked_processes.pids() == {}
    assert list(temp_dir.iterdir()) == []
    assert not (state_dir / "stack.json").exists()
    assert "database system is shut down" in (state_dir / "logs" / "postgres.log").read_text()


def test_a_killed_owner_leaves_nothing_and_the_next_start_works(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    with _owner(state_dir) as owner:
        owner.kill()
        owner.communicate()
    # At once: the programs of the killed one are still ending.
    with _stack(state_dir) as stack:
        assert _num_starts(stack.running.database_url) == 2
    marked_processes.assert_gone()
    assert list(temp_dir.iterdir()) == []


def test_everything_killed_at_once_and_the_next_start_works(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    with _owner(state_dir) as owner:
        # Up to the last one: with everybody dead, nobody could end what was just being started.
        marked_processes.find("-c import time; time.sleep(1000)  # pool child")
        for pid in marked_processes.pids():
            os.kill(pid, signal.SIGKILL)
        owner.communicate()
    marked_processes.assert_gone()
    assert len(list(temp_dir.iterdir())) == 1, "nobody was left to remove the sockets"
    with _stack(state_dir) as stack:
        assert _num_starts(stack.running.database_url) == 2
    assert list(temp_dir.iterdir()) == []


def test_a_second_stack_is_told_where_the_first_is(state_dir: Path, temp_dir: Path) -> None:
    with _stack(state_dir) as stack:
        with pytest.raises(DirectoryInUseError) as caught, _stack(state_dir):
            pass
        assert str(os.getpid()) in str(caught.value)
        assert stack.url in str(caught.value)
        assert find_running_stack(state_dir) == stack.running, "the refused one must not take the file away"
        assert stack.failures() == []


def test_a_dead_worker_is_started_again(state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses") -> None:
    phases: list[str] = []
    with _stack(state_dir, on_phase=phases.append) as stack:
        killed = marked_processes.find("# stand-in worker")
        os.kill(killed, signal.SIGKILL)
        _wait_for_failure(stack, "worker")
        assert stack.keep_up() == []
        assert stack.failures() == []
        assert marked_processes.find("# stand-in worker") != killed
    assert "worker ended with status 137, started again" in phases
    assert marked_processes.pids() == {}


def test_a_worker_that_dies_again_and_again_is_reported_with_its_log(state_dir: Path, temp_dir: Path) -> None:
    def services(plan: ServicePlan) -> Sequence[ServiceSpec]:
        # not before the stack is up: a program that ends while the others start fails the start
        code = "import os, pathlib, time\nup = pathlib.Path(os.environ['NASATLAS_STATE_DIR'], 'stack.json')\n"
        code += "while not up.exists():\n    time.sleep(0.05)\nraise SystemExit('no more memory')"
        worker = ServiceSpec("worker", (sys.executable, "-c", code))
        return (*_services(replace(plan, with_workers=False)), worker)

    with Stack(state_dir, services=services, migrate=_count_starts) as stack:
        (failure,) = stack.wait(60)
        assert (failure.name, failure.exit_status) == ("worker", 1)
        assert "no more memory" in str(failure)


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_dead_server_is_started_again_at_the_same_address(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses", server: str
) -> None:
    with _stack(state_dir) as stack:
        if server == "postgres":
            killed = int((state_dir / "postgres/postmaster.pid").read_text().splitlines()[0])
        else:
            killed = marked_processes.find("valkey-server")
        os.kill(killed, signal.SIGKILL)
        _wait_for_failure(stack, server)
        assert stack.keep_up() == []
        assert _num_starts(stack.running.database_url) == 1
        with redis.Redis.from_url(redis_py_url(stack.running.broker_url)) as client:
            assert client.ping()
    assert marked_processes.pids() == {}
    assert list(temp_dir.iterdir()) == []


def _wait_for_failure(stack: Stack, name: str) -> None:
    deadline = time.monotonic() + 30
    while name not in [failure.name for failure in stack.failures()]:
        assert time.monotonic() < deadline, f"{name} still runs"
        time.sleep(0.02)


def test_a_service_that_cannot_start_fails_the_start(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    def broken(plan: ServicePlan) -> Sequence[ServiceSpec]:
        return [ServiceSpec("api", (sys.executable, "-c", "raise SystemExit('no module named hope')"))]

    with pytest.raises(EmbeddedStackError, match=r"(?s)api ended with status 1.*no module named hope"):
        Stack(state_dir, services=broken, migrate=_count_starts).start()
    assert marked_processes.pids() == {}
    assert list(temp_dir.iterdir()) == []
    assert not (state_dir / "stack.json").exists()


def test_failing_migrations_stop_what_was_started(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    def failing(database_url: str) -> None:
        raise LookupError(database_url)

    with pytest.raises(LookupError):
        Stack(state_dir, services=_services, migrate=failing).start()
    assert marked_processes.pids() == {}
    assert list(temp_dir.iterdir()) == []


def test_a_taken_port_is_refused(state_dir: Path, temp_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedStackError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            _stack(state_dir, api_port=port).start()


def test_given_servers_are_used(
    state_dir: Path,
    temp_dir: Path,
    marked_processes: "MarkedProcesses",
    empty_database_url: str,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NASATLAS_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("NASATLAS_BROKER_URL", broker_url)
    with _stack(state_dir, with_workers=False) as stack:
        assert (stack.running.database_url, stack.running.broker_url) == (empty_database_url, broker_url)
        assert _num_starts(empty_database_url) == 1
        assert len(marked_processes.pids()) == 2, "the api and its guardian"
        assert list(temp_dir.iterdir()) == []


def test_deep_state_directory(tmp_path: Path, temp_dir: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-deep-directory"] * 12) / "state with spaces, and ünïcode"
    with _stack(deep) as stack:
        assert _num_starts(stack.running.database_url) == 1


def test_a_vanished_terminal_does_not_keep_it_from_stopping(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    def on_phase(phase: str) -> None:
        if phase == "stopping":
            raise BrokenPipeError(phase)

    with _stack(state_dir, on_phase=on_phase):
        pass
    assert marked_processes.pids() == {}


def test_its_api_does_not_start_where_others_reach_it_without_a_key(
    state_dir: Path, temp_dir: Path, marked_processes: "MarkedProcesses", database_url: str, broker_url: str
) -> None:
    """The real API: `nasatlas serve --host 0.0.0.0` says what to do, and ends."""
    options = {"with_workers": False, "database_url": database_url, "broker_url": broker_url}
    with pytest.raises(EmbeddedStackError, match=r"(?s)listens on 0\.0\.0\.0.*nasatlas keys create"):
        Stack(state_dir, api_host="0.0.0.0", **options).start()  # type: ignore[arg-type]
    assert marked_processes.pids() == {}
