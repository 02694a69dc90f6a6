"""Commands about searches, and how they follow one, against answers made up here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

import app.cli.following
from app.cli import searches
from app.cli.client import ApiClient
from app.cli.connection import Connection
from app.cli.console import Notices
from app.cli.errors import CommandError
from app.cli.following import follow
from app.cli.main import run
from app.schemas.examples import PAIR, SEARCH

ID = str(SEARCH["id"])
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in place of pauses."""
    made: list[float] = []
    monkeypatch.setattr(app.cli.following.time, "sleep", made.append)
    return made


def connected(answer: Answer) -> Connection:
    return Connection(ApiClient("http://service/", transport=httpx2.MockTransport(answer)))


def in_turn(*answers: httpx2.Response) -> Answer:
    left: Iterator[httpx2.Response] = iter(answers)
    return lambda _: next(left)


def search(state: str) -> httpx2.Response:
    return httpx2.Response(200, json={**SEARCH, "state": state, "error": None})


def problem(status: int, **members: Any) -> httpx2.Response:
    return httpx2.Response(status, json={"title": "no", "detail": "and why", **members})


def serve(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Let commands talk to answers made up here."""

    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[Connection]:
        yield connected(answer)

    monkeypatch.setattr(searches, "connect", connect)


def test_a_key_that_has_asked_too_often_waits(pauses: list[float]) -> None:
    answers = in_turn(search("running"), problem(429, retry_after_s=7), problem(503), search("succeeded"))
    assert follow(connected(answers), ID, Notices())["state"] == "succeeded"
    assert pauses == [app.cli.following.POLL_S, 7, app.cli.following.POLL_S]


@pytest.mark.usefixtures("pauses")
def test_a_search_that_is_gone_ends_the_following() -> None:
    with pytest.raises(CommandError, match="no: and why") as caught:
        follow(connected(in_turn(search("running"), problem(404))), ID, Notices())
    assert caught.value.exit_code == 2


def test_a_search_that_has_succeeded_meanwhile_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever left a search and comes back by ``resume`` cannot know whether it is over."""
    serve(monkeypatch, lambda request: problem(409) if request.method == "POST" else search("succeeded"))
    assert run(["resume", ID]) == 0
    captured = capsys.readouterr()
    assert f"search {ID} on {SEARCH['dataset']}" in captured.out
    assert "has succeeded already" in captured.err


@pytest.mark.parametrize("status", [403, 404, 429])
def test_what_cannot_be_resumed_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    serve(monkeypatch, lambda request: problem(status) if request.method == "POST" else search("failed"))
    assert run(["resume", ID]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no: and why" in captured.err


def test_a_table_names_rounds_as_the_option_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, lambda request: httpx2.Response(200, json={"items": [PAIR], "next_page": None}))
    assert run(["pairs", ID, "--round", str(PAIR["round_index"])]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[1] == str(PAIR["round_index"])
