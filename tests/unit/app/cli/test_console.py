"""Where a command writes: what people say is printed as it is, and a terminal that is gone ends nothing."""

import errno
import io
import json
import sys
from typing import Any

import pytest

from app.cli.console import Notices, answers, print_json
from app.cli.errors import USAGE, CommandError


def test_text_in_brackets_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A path or an error of somebody else's may look like markup."""
    notices = Notices()
    notices.say("reading [bold]a[/bold]")
    notices.phase("[red]b")
    notices.error(CommandError(USAGE, "no file [c]", ("line [/d]", "line [e]")))
    printed = capsys.readouterr()
    assert printed.out == ""
    said, phase, *error = printed.err.splitlines()
    assert said == "reading [bold]a[/bold]"
    assert phase.endswith(" s  [red]b")
    assert error == ["error: no file [c]", "  line [/d]", "  line [e]"]


class GonePipe(io.StringIO):
    """Standard error into a pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


class GoneTerminal(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("gone", [GonePipe(), GoneTerminal()])
def test_standard_error_that_is_gone_ends_no_command(
    gone: io.StringIO, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What comes after a notice may be cleaning up, or the answer (``2>&1 >answer.json | head``)."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", gone)
        notices = Notices()
        for _ in range(2):
            notices.say("stopping")
            notices.phase("stopping PostgreSQL")
            notices.error(CommandError(USAGE, "m", ("d",)))
    print_json({"state": "succeeded"})
    assert json.loads(capfd.readouterr().out) == {"state": "succeeded"}


def test_json_is_one_document_in_its_own_letters(capsys: pytest.CaptureFixture[str]) -> None:
    document: Any = {"class": "Bäume", "n": [1, None]}
    print_json(document)
    printed = capsys.readouterr().out
    assert json.loads(printed) == document
    assert "Bäume" in printed
    assert printed.endswith("}\n")


def test_a_table_is_not_cut_to_fit_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert not answers().is_terminal
    assert answers().width == 200
