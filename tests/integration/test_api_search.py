"""Submitting, reading, cancelling and resuming searches through the API, on a real database and broker."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import queue
from app.main import create_app
from app.settings import Settings, get_settings

TINY = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40}


@pytest.fixture
def client(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("NASATLAS_DATABASE_URL", database_url)
    monkeypatch.setenv("NASATLAS_BROKER_URL", broker_url)
    get_settings.cache_clear()
    queue._sender.cache_clear()
    with TestClient(create_app(Settings()), raise_server_exceptions=False) as client:
        yield client
    client.app.state.engine.dispose()
    get_settings.cache_clear()
    queue._sender.cache_clear()


def test_a_search_is_stored_with_its_whole_configuration(client: TestClient) -> None:
    response = client.post("/search", json=TINY)
    assert response.status_code == 202, response.text
    search = response.json()
    assert response.headers["location"] == f"/search/{search['id']}"
    assert (search["state"], search["phase"], search["progress"], search["eta_s"]) == ("queued", "queued", 0, None)
    assert search["config"]["num_sampled"] == 40
    assert search["config"]["num_classes"] == 10
    assert [r["segment"] for r in search["rounds"]] == [[*range(7)], [*range(7, 13)], [*range(13, 19)]]
    assert client.get(f"/search/{search['id']}").json() == search


def test_ready(client: TestClient) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
