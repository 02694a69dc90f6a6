"""No request waits for a second connection while it holds one: enough of them at once would wait for each other."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from app.db.engine import UTF8_CLIENT
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def narrow_client(keyed_settings: Settings, keys: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The API on one connection, for which nobody waits long."""
    url = keyed_settings.required_database_url()
    engine = create_engine(url, connect_args=UTF8_CLIENT, pool_size=1, max_overflow=0, pool_timeout=1)
    monkeypatch.setattr("app.main.get_engine", lambda _: engine)
    headers = {"Authorization": f"Bearer {keys.secret('alice', 'admin')}"}
    with TestClient(create_app(keyed_settings), headers=headers, raise_server_exceptions=False) as client:
        yield client


def test_one_connection_answers_everything(narrow_client: TestClient, factory: Any) -> None:
    search = factory.search(owner="alice")
    code = narrow_client.get(f"/lookup?search_id={search.id}").json()["items"][0]["code"]
    paths = {
        (route.path_format or "").format(
            search_id=search.id, round_index=0, code=code, slug="x", subspace_index=0, name="x", rest="x", path="x"
        )
        for route in iter_route_contexts(narrow_client.app.routes)  # type: ignore[attr-defined] # TestClient knows ASGI
        if "GET" in (route.methods or ())
    }
    assert len(paths) > 30
    paths |= {f"/lookup?search_id={search.id}&{query}" for query in ("max_madds=1", "scope=space", "round_index=1")}
    answers = {path: narrow_client.get(path).status_code for path in sorted(paths)}
    assert {path: status for path, status in answers.items() if status >= 500} == {}
    assert answers[f"/search/{search.id}/events"] == 200


def test_so_it_does_for_what_is_submitted(narrow_client: TestClient) -> None:
    submitted = narrow_client.post("/search", json={"dataset": "digits", "preset": "quick"})
    assert submitted.status_code == 202
    path = f"/search/{submitted.json()['id']}"
    assert [narrow_client.post(f"{path}/{verb}").status_code for verb in ("cancel", "resume", "cancel")] == [200] * 3
    assert narrow_client.delete(path).status_code == 204
