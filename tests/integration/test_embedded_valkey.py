"""The embedded Valkey: a broker that keeps its messages over restarts and kills, and leaves nothing behind."""

import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from kombu import Connection

from app.embedded.directories import make_socket_directory, remove_socket_directory
from app.embedded.errors import DirectoryInUseError, EmbeddedStackError
from app.embedded.process_table import descendants
from app.embedded.valkey import EmbeddedValkey, redis_py_url

if TYPE_CHECKING:
    from tests.conftest import MarkedProcesses

_OWNER = """
import sys, time
from pathlib import Path
from app.embedded.process_table import descendants
from app.embedded.valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]), Path(sys.argv[2]))
print(server.start(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A short directory for the socket."""
    directory = make_socket_directory()
    yield directory
    remove_socket_directory(directory)


def _set(url: str, key: str, value: str) -> None:
    with redis.Redis.from_url(redis_py_url(url)) as client:
        client.set(key, value)


def _get(url: str, key: str) -> bytes | None:
    with redis.Redis.from_url(redis_py_url(url)) as client:
        value = client.get(key)
    assert value is None or isinstance(value, bytes)
    return value


def test_settings_and_restart(tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses") -> None:
    data_dir = tmp_path / "valkey"
    with EmbeddedValkey(data_dir, socket_dir) as server:
        _set(server.url, "kept", "yes")
        with redis.Redis.from_url(redis_py_url(server.url)) as client:
            settings = {name: client.config_get(name)[name] for name in ("port", "appendonly", "maxmemory-policy")}
        assert settings == {"port": "0", "appendonly": "yes", "maxmemory-policy": "noeviction"}
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert marked_processes.pids() == {}
    assert not socket_dir.exists()
    with EmbeddedValkey(data_dir, socket_dir) as server:
        assert _get(server.url, "kept") == b"yes"


def test_celery_takes_the_url(broker_url: str) -> None:
    name = f"queue-{uuid.uuid4().hex}"
    with Connection(broker_url) as connection, connection.SimpleQueue(name) as queue:
        queue.put({"step_id": 7})
        message = queue.get(timeout=10)
        assert message.payload == {"step_id": 7}
        message.ack()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_owner(
    tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses", number: signal.Signals
) -> None:
    command = [sys.executable, "-c", _OWNER, str(tmp_path / "valkey"), str(socket_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            _set(owner.stdout.readline().strip(), "kept", "yes")
            with pytest.raises(DirectoryInUseError, match=rf"(?s)Another Valkey server works on .*process {owner.pid}"):
                EmbeddedValkey(tmp_path / "valkey", socket_dir, predecessor_timeout_s=0.2).start()
            owner.send_signal(number)
            owner.wait()
        finally:
            owner.kill()
    with EmbeddedValkey(tmp_path / "valkey", socket_dir) as server:  # at once: the old one may still be ending
        assert _get(server.url, "kept") == b"yes"
    marked_processes.assert_gone()


def test_killed_server(tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses") -> None:
    server = EmbeddedValkey(tmp_path / "valkey", socket_dir)
    _set(server.start(), "kept", "yes")
    assert server.process is not None
    (program,) = descendants(server.process.pid)
    assert program in marked_processes.pids()
    os.kill(program, signal.SIGKILL)
    marked_processes.assert_gone()
    assert server.process.poll() == 137
    server.stop()
    with EmbeddedValkey(tmp_path / "valkey", socket_dir) as server:
        assert _get(server.url, "kept") == b"yes"


def test_a_file_cut_off_by_a_crash_is_read_up_to_there(tmp_path: Path, socket_dir: Path) -> None:
    with EmbeddedValkey(tmp_path / "valkey", socket_dir) as server:
        _set(server.url, "kept", "yes")
    (log,) = (tmp_path / "valkey").rglob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nlo")
    with EmbeddedValkey(tmp_path / "valkey", socket_dir) as server:
        assert _get(server.url, "kept") == b"yes"


def test_a_broken_file_shows_the_servers_words(
    tmp_path: Path, socket_dir: Path, marked_processes: "MarkedProcesses"
) -> None:
    with EmbeddedValkey(tmp_path / "valkey", socket_dir) as server:
        _set(server.url, "kept", "yes")
    (log,) = (tmp_path / "valkey").rglob("*.incr.aof")
    log.write_bytes(b"nonsense" * 100)
    with pytest.raises(EmbeddedStackError, match=r"(?s)valkey ended with status 1 while it started.*Bad file format"):
        EmbeddedValkey(tmp_path / "valkey", socket_dir).start()
    assert marked_processes.pids() == {}
