"""Following a search: until it is over, through a restart of the service, and what is said to who stops."""

from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest

from app.cli import following
from app.cli.client import ApiClient
from app.cli.connection import Connection
from app.cli.console import Notices
from app.cli.errors import FAILED, UNREACHABLE, USAGE, CommandError
from app.cli.following import follow
from app.embedded.stack import Stack
from app.schemas.examples import SEARCH

ID = str(SEARCH["id"])
Step = Callable[[httpx2.Request], httpx2.Response]


class Programs:
    """A stack of our own that is up."""

    def keep_up(self) -> list[Any]:
        return []


def in_state(state: str, **values: Any) -> Step:
    return lambda _: httpx2.Response(200, json={**SEARCH, "state": state, **values})


def away(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def interrupted(_: httpx2.Request) -> httpx2.Response:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.time, "sleep", lambda _: None)


def followed(*steps: Step, own: bool = False, seen: list[httpx2.Request] | None = None) -> dict[str, Any]:
    """Follow a search at a service that answers these, one after the other."""
    left = iter(steps)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(request)
        return next(left)(request)

    with ApiClient("http://service", transport=httpx2.MockTransport(answer)) as api:
        return follow(Connection(api, cast(Stack, Programs()) if own else None), ID, Notices())


def test_until_it_has_succeeded() -> None:
    assert followed(in_state("queued"), in_state("running"), in_state("succeeded"))["state"] == "succeeded"


def test_a_service_that_is_away_for_a_moment_is_waited_for() -> None:
    unavailable: Step = lambda _: httpx2.Response(503, json={"title": "Service unavailable"})  # noqa: E731
    assert followed(in_state("running"), away, unavailable, in_state("succeeded"))["state"] == "succeeded"


def test_one_that_stays_away_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", -1.0)
    with pytest.raises(CommandError) as caught:
        followed(in_state("running"), away)
    assert caught.value.exit_code == UNREACHABLE
    assert f"go on with: nasatlas resume {ID}" in caught.value.details[-1]


def test_a_search_that_is_not_there_is_not_waited_for() -> None:
    seen: list[httpx2.Request] = []
    with pytest.raises(CommandError, match="No such search") as caught:
        followed(lambda _: httpx2.Response(404, json={"title": "No such search"}), seen=seen)
    assert (caught.value.exit_code, len(seen)) == (USAGE, 1)


@pytest.mark.parametrize(
    ("state", "says"), [("failed", f"search {ID} has failed: out of disk"), ("cancelled", f"search {ID} was cancelled")]
)
def test_other_ends_are_errors_that_say_how_to_go_on(state: str, says: str) -> None:
    with pytest.raises(CommandError) as caught:
        followed(in_state(state, error="out of disk"))
    assert (caught.value.exit_code, caught.value.message) == (FAILED, says)
    assert f"nasatlas resume {ID}" in caught.value.details[0]


def test_who_stops_following_a_service_elsewhere_leaves_the_search_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[httpx2.Request] = []
    with pytest.raises(KeyboardInterrupt):
        followed(in_state("running"), interrupted, seen=seen)
    assert {request.method for request in seen} == {"GET"}
    said = capsys.readouterr().err
    assert "the search goes on without you at http://service" in said
    assert f"nasatlas cancel {ID}" in said


@pytest.mark.parametrize("cancelling", [in_state("cancelling"), away])
def test_who_stops_a_service_of_his_own_cancels_the_search(
    capsys: pytest.CaptureFixture[str], cancelling: Step
) -> None:
    """Or it would go on by itself, before anything else, as soon as a service runs here again."""
    seen: list[httpx2.Request] = []
    with pytest.raises(KeyboardInterrupt):
        followed(in_state("running"), interrupted, cancelling, own=True, seen=seen)
    assert (seen[-1].method, seen[-1].url.path) == ("POST", f"/search/{ID}/cancel")
    assert f"go on with: nasatlas resume {ID}" in capsys.readouterr().err
