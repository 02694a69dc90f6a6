"""The embedded PostgreSQL before it is started: its address, and what it refuses. The server is in integration."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.embedded.errors import EmbeddedStackError
from app.embedded.postgres import DATABASE, EmbeddedPostgres, _first_line_number, _status_line


def test_too_long_socket_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStackError, match="too long for unix sockets"):
        EmbeddedPostgres(tmp_path / "postgres", tmp_path / ("long" * 25)).start()
    assert list(tmp_path.iterdir()) == [], "nothing was made for it"


def test_an_awkward_directory_is_part_of_the_address(tmp_path: Path) -> None:
    socket_dir = tmp_path / "a b&c=%d"
    server = EmbeddedPostgres(tmp_path / "postgres", socket_dir)
    assert make_url(server.url).query == {"host": str(socket_dir)}
    assert make_url(server.url).database == DATABASE
    assert make_url(server.url_of("other")).database == "other"


def test_stopping_what_is_not_up_does_nothing(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", tmp_path / "sockets")
    server.stop()
    assert server.process is None


@pytest.mark.parametrize(
    ("content", "pid", "status"),
    [
        ("4711\n/data\n1\n5432\n/tmp\n\n1 2\nready   \n", 4711, "ready"),
        ("4711\n/data\n1\n5432\n/tmp\n\n1 2\nstarting\n", 4711, "starting"),
        ("-4711\n/data\n", 4711, None),
        ("", None, None),
        ("not a number\n", None, None),
        (None, None, None),
    ],
)
def test_the_servers_own_file_while_it_is_being_written(
    tmp_path: Path, content: str | None, pid: int | None, status: str | None
) -> None:
    """A negative number stands for a server in single-user mode; the status comes last."""
    pid_file = tmp_path / "postmaster.pid"
    if content is not None:
        pid_file.write_text(content)
    assert (_first_line_number(pid_file), _status_line(pid_file)) == (pid, status)
