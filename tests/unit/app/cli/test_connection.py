"""Which service a command talks to, and that it notices when that has ended."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from app.cli.client import ApiClient
from app.cli.connection import Connection, connect
from app.cli.console import Notices
from app.cli.errors import UNREACHABLE, CommandError
from app.embedded.errors import EmbeddedStackError
from app.embedded.running_stack import RunningStack, stack_lock
from app.embedded.stack import Stack
from app.settings import Settings


def running(pid: int) -> RunningStack:
    return RunningStack(pid, "http://127.0.0.1:1", "postgresql+psycopg://", "redis+socket:///x", None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, url=None)


def test_a_stack_of_another_command_is_joined(settings: Settings) -> None:
    running(os.getpid()).write(settings.state_dir)
    lock = stack_lock(settings.state_dir)
    lock.acquire()
    try:
        with connect(settings, None, Notices()) as connection:
            assert connection.api.url == "http://127.0.0.1:1"
            assert connection.joined == running(os.getpid())
            assert connection.stack is None
            connection.check()
    finally:
        lock.release()


@pytest.mark.parametrize("url", ["http://given:1", None])
def test_an_address_that_is_given_goes_first(settings: Settings, url: str | None) -> None:
    """Before the one of the settings, which goes before a stack that runs here; that one's end is nobody's business."""
    running(os.getpid()).write(settings.state_dir)
    lock = stack_lock(settings.state_dir)
    lock.acquire()
    try:
        set_up = settings.model_copy(update={"url": "http://set-up:2"})
        with connect(set_up, url, Notices()) as connection:
            assert connection.api.url == (url or "http://set-up:2")
            assert connection.joined is None
    finally:
        lock.release()


def test_a_service_of_ones_own_is_not_started_where_it_would_be_of_no_use(settings: Settings) -> None:
    with (
        pytest.raises(CommandError, match="start `nasatlas serve` in another terminal, or give --url") as caught,
        connect(settings, None, Notices(), may_start=False),
    ):
        pass
    assert caught.value.exit_code == UNREACHABLE
    assert list(settings.state_dir.iterdir()) == []


def test_a_stack_whose_command_has_ended_is_said_to_have_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        with ApiClient("http://127.0.0.1:1") as api:
            connection = Connection(api, joined=running(process.pid))
            with pytest.raises(CommandError, match="the command that ran the service has ended") as caught:
                connection.check()
    assert caught.value.exit_code == UNREACHABLE


class Programs:
    """A stack whose programs are up, have ended too often, or cannot be started again."""

    def __init__(self, *failures: str, error: str | None = None) -> None:
        self.failures, self.error = failures, error

    def keep_up(self) -> list[Any]:
        if self.error is not None:
            raise EmbeddedStackError(self.error)
        return list(self.failures)


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        (Programs("the worker ended", "the API ended"), "the worker ended\nthe API ended"),
        (Programs(error="no room for the worker"), "no room for the worker"),
    ],
)
def test_programs_that_do_not_stay_up_end_the_command(programs: Programs, says: str) -> None:
    with ApiClient("http://127.0.0.1:1") as api:
        Connection(api, cast(Stack, Programs())).check()
        with pytest.raises(CommandError) as caught:
            Connection(api, cast(Stack, programs)).check()
    assert (caught.value.exit_code, caught.value.message) == (UNREACHABLE, says)
