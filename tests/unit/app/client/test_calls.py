"""What calls of all kinds share: waiting for the end, and lists that come in pages."""

from typing import Any

import httpx2
import pytest

import app.client.calls
from app.client import SearchEndedError, ServiceError
from app.client.calls import json_space, read_pages
from app.client.transport import Transport
from app.domain.search_space import preset
from tests.unit.app.client.answers import ID, always, answering, in_state


class TestWaiting:
    def test_until_it_has_succeeded(self) -> None:
        answers = iter([in_state("queued"), None, in_state("running"), in_state("succeeded")])

        def answer(_: httpx2.Request) -> httpx2.Response:
            body = next(answers)
            return httpx2.Response(200, json=body) if body else httpx2.Response(503, json={"title": "away"})

        with answering(answer) as atlas:
            assert atlas.wait(ID).state == "succeeded"

    @pytest.mark.parametrize(("state", "says"), [("failed", "has failed: broken"), ("cancelled", "was cancelled")])
    def test_other_ends_are_errors(self, state: str, says: str) -> None:
        with (
            always(200, in_state(state, error="broken")) as atlas,
            pytest.raises(SearchEndedError, match=says) as caught,
        ):
            atlas.wait(ID)
        assert caught.value.search.state == state

    def test_only_so_long(self) -> None:
        with always(200, in_state("running")) as atlas, pytest.raises(TimeoutError, match="it goes on"):
            atlas.wait(ID, timeout_s=0)

    def test_a_service_that_stays_away_is_not_waited_for_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(app.client.calls, "PATIENCE_S", -1.0)
        with always(503, {"title": "away"}) as atlas, pytest.raises(ServiceError, match="away"):
            atlas.wait(ID)


class TestPages:
    def pages(self, num_items: int, sizes: list[int]) -> Transport:
        """A list of numbers that hands out as many at a time as it is asked for, and notes how many that was."""

        def answer(request: httpx2.Request) -> httpx2.Response:
            start, size = int(request.url.params.get("cursor", "0")), int(request.url.params["size"])
            sizes.append(size)
            end = min(start + size, num_items)
            body = {
                "items": [{"number": i} for i in range(start, end)],
                "next_page": str(end) if end < num_items else None,
            }
            return httpx2.Response(200, json=body)

        return Transport("http://service", transport=httpx2.MockTransport(answer))

    @pytest.mark.parametrize(
        ("num_items", "limit", "sizes"),
        [
            (250, 0, [100, 100, 100]),
            (250, 3, [3]),
            (250, 130, [100, 30]),
            (5, 130, [100]),
            (0, 0, [100]),
            (100, 100, [100]),
        ],
    )
    def test_no_more_is_asked_for_than_is_wanted(self, num_items: int, limit: int, sizes: list[int]) -> None:
        asked: list[int] = []
        items = read_pages(self.pages(num_items, asked), "/x", limit)
        assert [item["number"] for item in items] == list(range(min(num_items, limit) if limit else num_items))
        assert asked == sizes

    def test_a_query_holds_on_every_page(self) -> None:
        seen: list[Any] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            seen.append((request.url.params.get("kind"), request.url.params.get("cursor")))
            return httpx2.Response(200, json={"items": [{}], "next_page": None if len(seen) == 2 else "next"})

        read_pages(Transport("http://service", transport=httpx2.MockTransport(answer)), "/x", 0, kind="export")
        assert seen == [("export", None), ("export", "next")]


def test_a_space_is_sent_by_its_name_or_whole() -> None:
    space = preset("nas-bench-macro")
    assert json_space("fairnas") == "fairnas"
    assert json_space(space) == space.model_dump(mode="json") == json_space(space.model_dump(mode="json"))
