"""What one owner may have, and deleting what is no longer needed."""

import datetime as dt
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, text

from app.main import create_app
from app.settings import Settings

TINY = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40}
ROWS_OF_TINY = 6**7 + 2 * 6 * 6**6
"""A round of 7 cells, then two of 6 cells with a super-cell of up to 6 preserved architectures."""


def limited(client: TestClient, api_settings: Settings, **limits: int) -> None:
    client.app.state.settings = api_settings.model_copy(update=limits)  # type: ignore[attr-defined]


class TestOpenSearches:
    def test_one_too_many(self, client: TestClient, api_settings: Settings, factory: Any) -> None:
        limited(client, api_settings, max_open_searches_per_owner=2)
        factory.search(state="succeeded", num_tables=0)
        factory.search(state="queued", num_tables=0, owner="bob")
        ids = [client.post("/search", json=TINY).json()["id"] for _ in range(2)]
        refused = client.post("/search", json=TINY)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) == refused.json()["retry_after_s"] > 0
        assert "cancel one with POST /search/{id}/cancel" in refused.json()["detail"]
        client.post(f"/search/{ids[0]}/cancel")
        assert client.post("/search", json=TINY).status_code == 202
        assert client.post(f"/search/{ids[0]}/resume").status_code == 429
        assert client.post(f"/search/{ids[1]}/resume").status_code == 200, "it is open anyway"

    def test_are_counted_per_owner(self, keyed_settings: Settings, keys: Any) -> None:
        admin = keys.of("root", "admin")
        with TestClient(create_app(keyed_settings.model_copy(update={"max_open_searches_per_owner": 1}))) as client:
            for headers, status in (
                (keys.of("alice"), 202),
                (keys.of("alice"), 429),
                (keys.of("bob"), 202),
                (admin, 202),
                (admin, 429),
            ):
                assert client.post("/search", json=TINY, headers=headers).status_code == status

    def test_the_same_request_again_is_not_one_more(self, client: TestClient, api_settings: Settings) -> None:
        limited(client, api_settings, max_open_searches_per_owner=1)
        key = {"Idempotency-Key": "k"}
        assert [client.post("/search", json=TINY, headers=key).status_code for _ in range(2)] == [202, 200]

    @pytest.mark.parametrize("key", [None, "k"])
    def test_many_at_once_get_what_there_is(self, client: TestClient, api_settings: Settings, key: str | None) -> None:
        limited(client, api_settings, max_open_searches_per_owner=1)
        headers = {"Idempotency-Key": key} if key else {}
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(client.post("/search", json=TINY, headers=headers).status_code)
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == ([202] + [429] * 5 if key is None else [200] * 5 + [202])


def test_rows_that_are_stored_and_those_to_come(client: TestClient, api_settings: Settings, factory: Any) -> None:
    stored = factory.search(num_tables=1)
    limited(client, api_settings, max_rows_per_owner=2 * ROWS_OF_TINY)
    first = client.post("/search", json=TINY)
    assert first.status_code == 202
    refused = client.post("/search", json=TINY)
    assert refused.status_code == 429
    assert f"{ROWS_OF_TINY + 6561:,} rows" in refused.json()["detail"]
    assert "DELETE /search/{id}" in refused.json()["detail"]
    assert client.delete(f"/search/{stored.id}").status_code == 204
    assert client.post("/search", json=TINY).status_code == 202


def test_bytes_of_checkpoints(client: TestClient, api_settings: Settings, factory: Any) -> None:
    search = factory.search(num_tables=0)
    factory.change(search.id, artifact_bytes=10**6)
    limited(client, api_settings, max_artifact_bytes_per_owner=10**6 + 1)
    assert client.post("/search", json=TINY).status_code == 202
    limited(client, api_settings, max_artifact_bytes_per_owner=10**6)
    refused = client.post("/search", json=TINY)
    assert (refused.status_code, "1,000,000 bytes" in refused.json()["detail"]) == (429, True)


class TestDelete:
    def test_nothing_is_left_but_a_tombstone(self, client: TestClient, factory: Any) -> None:
        kept, search = factory.search(), factory.search(num_tables=1)
        factory.step(search.id, "train_supernet", state="done")
        assert client.delete(f"/search/{search.id}").status_code == 204
        assert client.delete(f"/search/{search.id}").status_code == 404
        assert client.get(f"/search/{search.id}").status_code == 404
        assert client.get("/lookup", params={"search_id": str(search.id)}).status_code == 404
        with factory.engine.connect() as connection:
            counts = {
                table: connection.execute(text(f"select count(*) from {table}")).scalar_one()
                for table in ("searches", "rounds", "steps", "pairs", "lookup_tables", "lookup_rows")
            }
            assert connection.execute(text("select search_id from deleted_searches")).scalars().all() == [search.id]
        assert counts == {
            "searches": 1,
            "rounds": 1,
            "steps": 0,
            "pairs": 40,
            "lookup_tables": 1,
            "lookup_rows": kept.tables[0].num_rows,
        }
        assert client.get("/lookup").json()["search_id"] == str(kept.id)

    @pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
    def test_not_while_it_is_under_way(self, client: TestClient, factory: Any, state: str) -> None:
        search = factory.search(state=state, num_tables=0)
        response = client.delete(f"/search/{search.id}")
        assert (response.status_code, response.json()["state"]) == (409, state)
        assert f"/search/{search.id}/cancel" in response.json()["detail"]
        assert client.get(f"/search/{search.id}").status_code == 200

    def test_not_while_a_worker_holds_on_to_it(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="failed", num_tables=0)
        factory.step(
            search.id, "train_supernet", state="leased", lease_expires_at=func.now() + dt.timedelta(seconds=30)
        )
        assert client.delete(f"/search/{search.id}").status_code == 409

    def test_by_its_owner_or_an_administrator(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        for headers, status in (
            (keys.of("bob"), 404),
            (keys.of("alice", "read"), 403),
            (keys.of("alice"), 204),
            (keys.of("root", "admin"), 204),
        ):
            search = factory.search(owner="alice", num_tables=0)
            assert keyed_client.delete(f"/search/{search.id}", headers=headers).status_code == status

    def test_between_two_queries_of_a_lookup(
        self, client: TestClient, factory: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from app.db import lookup as lookup_db

        search = factory.search()
        for name in ("top_rows", "pareto_front"):
            whole = getattr(lookup_db, name)

            def deleting(*args: Any, whole: Any = whole, path: str = f"/search/{search.id}", **options: Any) -> Any:
                client.delete(path)
                return whole(*args, **options)

            with monkeypatch.context() as patched:
                patched.setattr(lookup_db, name, deleting)
                path = "/lookup" if name == "top_rows" else "/lookup/pareto"
                assert client.get(path, params={"search_id": str(search.id)}).status_code == 404
            search = factory.search()
