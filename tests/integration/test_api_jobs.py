"""Whose jobs about architectures are: they belong to their search's owner, count as open, and go with the search."""

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, text

from app.main import create_app
from app.settings import Settings, get_settings
from tests.integration.test_api_retraining import path_of, retrained

EXPORT = {"format": "onnx"}


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api_settings: Settings) -> Path:
    monkeypatch.setenv("NASATLAS_ARTIFACT_URL", str(tmp_path / "artifacts"))
    get_settings.cache_clear()
    api_settings.artifact_url = str(tmp_path / "artifacts")
    return tmp_path / "artifacts"


def trained(factory: Any, **values: Any) -> Any:
    """A finished search whose supernet's weights are there."""
    search = factory.search(**values)
    factory.step(search.id, "train_supernet", state="done")
    return search


def jobs(factory: Any) -> list[tuple[str, str | None]]:
    with factory.engine.connect() as connection:
        rows = connection.execute(text("select kind, owner from searches where kind <> 'search' order by created_at"))
        return [tuple(row) for row in rows]


class TestOwners:
    def test_a_job_belongs_to_the_owner_of_its_search(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        search = trained(factory, owner="alice")
        alice, root = keys.of("alice"), keys.of("root", "admin")
        for headers in (alice, root):
            assert keyed_client.post(f"{path_of(search)}/retraining", json={}, headers=headers).status_code == 202
        assert keyed_client.get(f"{path_of(search)}/export", params=EXPORT, headers=root).status_code == 202
        assert jobs(factory) == [("retraining", "alice")] * 2 + [("export", "alice")]
        listed = keyed_client.get("/search", params={"kind": "all"}, headers=alice).json()["items"]
        assert len(listed) == 4

    def test_for_another_owner_neither_search_nor_job_exists(
        self, keyed_client: TestClient, keys: Any, factory: Any
    ) -> None:
        search = trained(factory, owner="alice")
        alice, bob = keys.of("alice"), keys.of("bob")
        job_id = keyed_client.post(f"{path_of(search)}/retraining", json={}, headers=alice).json()["id"]
        for method, path, query in (
            ("POST", f"{path_of(search)}/retraining", {}),
            ("GET", path_of(search), {}),
            ("GET", f"{path_of(search)}/export", EXPORT),
            ("GET", f"{path_of(search)}/export", {"format": "python"}),
            ("GET", f"/search/{search.id}/rounds/0/table", {"format": "csv"}),
            ("GET", f"/search/{search.id}/pairs", {"format": "csv"}),
            ("GET", f"/search/{job_id}", {}),
            ("GET", f"/search/{job_id}/events", {}),
            ("POST", f"/search/{job_id}/cancel", {}),
            ("POST", f"/search/{job_id}/resume", {}),
            ("DELETE", f"/search/{job_id}", {}),
        ):
            body = {} if path.endswith("/retraining") else None
            response = keyed_client.request(method, path, params=query, json=body, headers=bob)
            assert response.status_code == 404, path
            never = uuid.uuid4()
            asked = str(search.id) if str(search.id) in path else job_id
            unknown = keyed_client.request(
                method, path.replace(asked, str(never)), params=query, json=body, headers=bob
            )
            assert response.json()["detail"].replace(asked, "") == unknown.json()["detail"].replace(str(never), "")
        assert keyed_client.get("/search", params={"kind": "all"}, headers=bob).json()["items"] == []
        assert len(jobs(factory)) == 1

    def test_idempotency_keys_are_each_owners_own(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        ids = set()
        for owner in ("alice", "bob"):
            search, headers = trained(factory, owner=owner), {**keys.of(owner), "Idempotency-Key": "k"}
            answers = [keyed_client.post(f"{path_of(search)}/retraining", json={}, headers=headers) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [202, 200]
            ids |= {answer.json()["id"] for answer in answers}
        assert len(ids) == 2


class TestScopes:
    def test_reading_starts_no_job(self, keyed_client: TestClient, keys: Any, factory: Any, artifacts: Path) -> None:
        search = trained(factory, owner="alice")
        reader, submitter = keys.of("alice", "read"), keys.of("alice")
        path = f"{path_of(search)}/export"
        for method, refused in (("POST", f"{path_of(search)}/retraining"), ("GET", f"{path}?format=onnx")):
            response = keyed_client.request(method, refused, json={} if method == "POST" else None, headers=reader)
            assert response.status_code == 403
            assert "scope submit" in response.json()["detail"]
        assert jobs(factory) == []
        job_id = keyed_client.get(path, params=EXPORT, headers=submitter).json()["id"]
        assert keyed_client.get(path, params=EXPORT, headers=reader).json()["id"] == job_id, "it is under way"
        (artifacts / job_id).mkdir(parents=True)
        (artifacts / job_id / "export.onnx").write_bytes(b"network")
        factory.change(uuid.UUID(job_id), state="succeeded")
        assert keyed_client.get(path, params=EXPORT, headers=reader).content == b"network"
        (artifacts / job_id / "export.onnx").unlink()
        assert keyed_client.get(path, params=EXPORT, headers=reader).status_code == 403
        assert keyed_client.get(path, params=EXPORT, headers=submitter).status_code == 202, "the job can be made again"

    def test_what_no_worker_has_to_make_is_for_readers(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        search, reader = trained(factory, owner="alice"), keys.of("alice", "read")
        for path in (
            f"{path_of(search)}/export?format=python",
            f"/search/{search.id}/rounds/0/table?format=parquet",
            f"/search/{search.id}/pairs?format=csv",
        ):
            assert keyed_client.get(path, headers=reader).status_code == 200


class TestQuotas:
    def test_jobs_count_as_open(self, client: TestClient, api_settings: Settings, factory: Any) -> None:
        search = trained(factory)
        client.app.state.settings = api_settings.model_copy(  # type: ignore[attr-defined]
            update={"max_open_searches_per_owner": 2}
        )
        first = client.post(f"{path_of(search)}/retraining", json={}).json()
        assert client.get(f"{path_of(search)}/export", params=EXPORT).status_code == 202
        assert client.get(f"{path_of(search)}/export", params=EXPORT).status_code == 202, "the same one"
        for refused in (
            client.post(f"{path_of(search)}/retraining", json={}),
            client.get(f"{path_of(search, '00000000')}/export", params=EXPORT),
            client.post("/search", json={"dataset": "digits", "search_space": "fairnas", "num_sampled": 40}),
        ):
            assert refused.status_code == 429
            assert "jobs about them" in refused.json()["detail"]
        client.post(f"/search/{first['id']}/cancel")
        assert client.post(f"{path_of(search)}/retraining", json={}).status_code == 202
        assert client.post(f"/search/{first['id']}/resume").status_code == 429

    def test_an_administrator_spends_the_owners_quota(self, keyed_settings: Settings, keys: Any, factory: Any) -> None:
        search, root = trained(factory, owner="alice"), keys.of("root", "admin")
        limited = keyed_settings.model_copy(update={"max_open_searches_per_owner": 1})
        with TestClient(create_app(limited)) as client:
            statuses = [
                client.post(f"{path_of(search)}/retraining", json={}, headers=headers).status_code
                for headers in (root, root, keys.of("alice"))
            ]
        assert statuses == [202, 429, 429]


class TestDelete:
    def test_jobs_go_with_their_search(self, client: TestClient, factory: Any) -> None:
        search, other = trained(factory), trained(factory)
        gone = [retrained(factory, client, search, "01201201", 0.9)]
        gone.append(client.get(f"{path_of(search)}/export", params=EXPORT).json()["id"])
        client.post(f"/search/{gone[1]}/cancel")
        kept = retrained(factory, client, other, "01201201", 0.8)
        assert client.delete(f"/search/{search.id}").status_code == 204
        for search_id in (str(search.id), *gone):
            assert client.get(f"/search/{search_id}").status_code == 404
        assert client.get(f"/search/{kept}").status_code == 200
        with factory.engine.connect() as connection:
            left = connection.execute(text("select job_id from standalone_accuracies")).scalars().all()
            steps = connection.execute(text("select distinct search_id from steps")).scalars().all()
            tombstones = connection.execute(text("select search_id from deleted_searches")).scalars().all()
        assert left == [uuid.UUID(kept)]
        assert set(steps) == {other.id, uuid.UUID(kept)}
        assert set(tombstones) == {search.id, *map(uuid.UUID, gone)}, "their files are removed as well"

    @pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
    def test_not_while_a_job_is_under_way(self, client: TestClient, factory: Any, state: str) -> None:
        search = trained(factory)
        job_id = client.post(f"{path_of(search)}/retraining", json={}).json()["id"]
        factory.change(uuid.UUID(job_id), state=state)
        response = client.delete(f"/search/{search.id}")
        assert response.status_code == 409
        assert f"POST /search/{job_id}/cancel" in response.json()["detail"]
        factory.change(uuid.UUID(job_id), state="cancelled")
        assert client.delete(f"/search/{search.id}").status_code == 204

    def test_not_while_a_worker_holds_on_to_a_job(self, client: TestClient, factory: Any) -> None:
        search = trained(factory)
        job_id = uuid.UUID(client.post(f"{path_of(search)}/retraining", json={}).json()["id"])
        factory.change(job_id, state="cancelled")
        factory.step(job_id, "export", state="leased", lease_expires_at=func.now() + dt.timedelta(seconds=30))
        assert client.delete(f"/search/{search.id}").status_code == 409

    def test_nobody_waits_for_somebody_who_changes_a_job(self, client: TestClient, factory: Any) -> None:
        """Who stores a result holds the job and asks for the search: waiting for each other would end in an error."""
        search = trained(factory)
        job_id = retrained(factory, client, search, "01201201", 0.9)
        with factory.engine.begin() as connection:
            connection.execute(text("select id from searches where id = :id for update"), {"id": job_id})
            assert client.delete(f"/search/{search.id}").status_code == 409
        assert client.delete(f"/search/{search.id}").status_code == 204

    def test_a_retraining_alone_takes_its_accuracy_along(self, client: TestClient, factory: Any) -> None:
        search = trained(factory)
        job_ids = [retrained(factory, client, search, "01201201", 0.9 - i / 10, seed=i) for i in range(2)]
        assert len(client.get(path_of(search)).json()["standalone"]) == 2
        assert client.delete(f"/search/{job_ids[1]}").status_code == 204
        (left,) = client.get(path_of(search)).json()["standalone"]
        assert left["job_id"] == job_ids[0]


def test_the_latest_search_is_no_job(client: TestClient, factory: Any) -> None:
    search = trained(factory)
    job_id = retrained(factory, client, search, "01201201", 0.9)
    assert client.get("/lookup").json()["search_id"] == str(search.id)
    for query in ({}, {"scope": "space"}):
        response = client.get("/lookup", params={"search_id": job_id, **query})
        assert response.status_code == 404
        assert "is no search but a job" in response.json()["detail"]
