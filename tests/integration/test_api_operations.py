"""Health, metrics, and that every error is a problem that says what to do."""

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.body_limit import MAX_BODY_BYTES
from app.db.engine import get_engine, transaction
from app.db.models import SearchRow
from app.main import create_app
from app.settings import Settings


def test_alive_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"broker_url": "redis://127.0.0.1:1/0"}, ["broker"]),
        ({"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"}, ["database"]),
    ],
)
def test_not_ready_names_what_is_missing(api_settings: Settings, changes: dict[str, str], missing: list[str]) -> None:
    app = create_app(api_settings.model_copy(update=changes))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["missing"] == missing
        assert client.get("/healthz").status_code == 200
        if missing == ["database"]:
            response = client.get("/search")
            assert (response.status_code, response.json()["missing"]) == (503, ["database"])


def test_not_ready_without_migrations(api_settings: Settings, empty_database_url: str) -> None:
    app = create_app(api_settings.model_copy(update={"database_url": empty_database_url}))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/readyz").json()["missing"] == ["migrations"]
    get_engine(empty_database_url).dispose()


def test_metrics_count_searches_and_requests(client: TestClient, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)
    factory.step(search.id, "train_supernet")
    client.get(f"/search/{search.id}")
    text = client.get("/metrics").text
    assert 'nasatlas_searches{state="running"} 1.0' in text
    assert 'nasatlas_searches{state="failed"} 0.0' in text
    assert 'nasatlas_steps{kind="train_supernet",state="ready"} 1.0' in text
    assert 'handler="/search/{search_id}"' in text


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nothing", 404, "GET /docs"),
        ("DELETE", "/search", 405, "use GET or POST"),
        ("GET", "/search/not-a-uuid", 422, "UUID"),
        ("POST", "/search", 422, "body"),
    ],
)
def test_every_error_is_a_problem(client: TestClient, method: str, path: str, status: int, says: str) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert says in response.json()["detail"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"dataset": "\\ud800"}', b"null"])
def test_bodies_that_are_none(client: TestClient, body: bytes) -> None:
    response = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_bodies_that_are_too_large(client: TestClient) -> None:
    large = b" " * (MAX_BODY_BYTES + 1)
    chunks = (b" " * 65536 for _ in range(MAX_BODY_BYTES // 65536 + 1))
    for content in (large, chunks):
        response = client.post("/search", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["max_bytes"] == MAX_BODY_BYTES


def test_a_crash_is_a_problem_with_the_request_id(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("app.services.search_view.summaries", broken)
    client.post("/search", json={"dataset": "digits", "num_sampled": 40})
    response = client.get("/search", headers={"X-Request-ID": "0123456789abcdef0123456789abcdef"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == "0123456789abcdef0123456789abcdef"
    assert response.headers["x-request-id"] == "0123456789abcdef0123456789abcdef"
    assert "secret" not in response.text


def test_a_crash_has_every_header_of_other_answers(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    of_good_answers = client.get("/search").headers
    monkeypatch.setattr("app.services.search_view.summaries", broken)
    crashed = client.get("/search")
    assert crashed.status_code == 500
    assert set(of_good_answers) <= set(crashed.headers)
    assert crashed.json()["request_id"] == crashed.headers["x-request-id"]
    for name in ("x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"):
        assert crashed.headers[name] == of_good_answers[name]


def test_log_lines_name_request_search_and_round(
    client: TestClient, factory: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    search, request_id = factory.search(), uuid.uuid4().hex
    monkeypatch.setattr("app.services.search_view.read_round", broken)
    client.get(f"/search/{search.id}/rounds/3", headers={"X-Request-ID": request_id})
    client.get("/search/none/rounds/none")
    # what is formatted as JSON afterwards
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    (failed,) = [line for line in lines if line["event"] == "request failed"]
    assert (failed["request_id"], failed["search_id"], failed["round_index"]) == (request_id, str(search.id), 3)
    assert not [line for line in lines if line.get("search_id", str(search.id)) != str(search.id)]


def test_a_search_knows_the_request_that_asked_for_it_last(
    client: TestClient, factory: Any, api_settings: Settings
) -> None:
    """The workers' log lines name it."""

    def stored(search_id: str) -> str | None:
        with transaction(get_engine(api_settings.required_database_url())) as session:
            return session.get_one(SearchRow, uuid.UUID(search_id)).request_id

    body = {"dataset": "digits", "num_sampled": 40}
    first, again, resumed = ({"X-Request-ID": uuid.uuid4().hex, "Idempotency-Key": "k"} for _ in range(3))
    search_id = client.post("/search", json=body, headers=first).json()["id"]
    assert client.post("/search", json=body, headers=again).json()["id"] == search_id
    assert stored(search_id) == first["X-Request-ID"]
    client.post(f"/search/{search_id}/cancel")
    assert client.post(f"/search/{search_id}/resume", headers=resumed).status_code == 200
    assert stored(search_id) == resumed["X-Request-ID"]


def test_browsers_are_kept_short(client: TestClient) -> None:
    headers = client.get("/healthz").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/", "/docs"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "http" not in policy


def test_every_error_is_documented_as_a_problem(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            documented = [status for status in operation["responses"] if status >= "400"]
            assert {"422", "500", "503"} <= set(documented), (method, path)
            for status in documented:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"], (method, path)


def test_problem_types_can_be_read(client: TestClient) -> None:
    problem = client.get("/search/00000000-0000-0000-0000-000000000000").json()
    assert client.get(problem["type"]).json()["title"] == problem["title"]
