"""Errors of every kind leave as problems that say what to do; what they came from stays in the log."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.api.body_limit import BodyTooLargeError
from app.api.problem_handlers import answer_crashes, install_problem_handlers


class Body(BaseModel):
    epochs: int


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/things/{number}")
    def read(number: int) -> None:
        """Takes a number."""

    @app.delete("/things/{number}")
    def delete(number: int) -> None:
        """Takes a number."""

    @app.post("/things")
    def post(body: Body) -> None:
        """Takes a body."""

    def fail(path: str, error: Exception) -> None:
        def failing() -> None:
            raise error

        app.get(path)(failing)

    fail("/large", BodyTooLargeError(1234))
    fail("/unreadable", HTTPException(400, "There was an error parsing the body"))
    fail("/away", OperationalError("select secret", {}, Exception("password")))
    fail("/busy", PoolTimeoutError("QueuePool limit of size 5"))
    fail("/crash", RuntimeError("secret"))
    install_problem_handlers(app)
    answer_crashes(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def problem(client: TestClient, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    return found


def test_an_unknown_path_says_where_the_known_ones_are(client: TestClient) -> None:
    assert problem(client, "GET", "/nothing", 404)["detail"] == "nothing is served at /nothing; GET /docs shows what is"
    assert len(problem(client, "GET", "/" + "x" * 5000, 404)["detail"]) < 300


def test_a_method_that_a_path_does_not_answer_names_those_of_all_its_routes(client: TestClient) -> None:
    found = problem(client, "PUT", "/things/3", 405)
    assert found["detail"] == "/things/3 does not answer PUT; use DELETE or GET"
    assert found["allow"] == ["DELETE", "GET"]


def test_a_body_says_where_it_is_wrong(client: TestClient) -> None:
    found = problem(client, "POST", "/things", 422, json={"epochs": "many"})
    assert [error["loc"] for error in found["errors"]] == [["body", "epochs"]]
    assert found["detail"].startswith("body.epochs: ")


def test_a_body_that_cannot_be_read(client: TestClient) -> None:
    assert (
        problem(client, "GET", "/unreadable", 422)["detail"] == "the body cannot be read; send one JSON object in UTF-8"
    )


def test_a_body_that_is_too_large_tells_the_limit(client: TestClient) -> None:
    found = problem(client, "GET", "/large", 413)
    assert found["max_bytes"] == 1234
    assert "up to 1,234 bytes" in found["detail"]


@pytest.mark.parametrize("path", ["/away", "/busy"])
def test_a_database_that_is_away_is_no_crash(client: TestClient, path: str) -> None:
    found = problem(client, "GET", path, 503)
    assert found["missing"] == ["database"]
    assert not [word for word in ("secret", "password", "QueuePool") if word in str(found)]


def test_a_crash_tells_nothing_of_its_cause(client: TestClient) -> None:
    found = problem(client, "GET", "/crash", 500)
    assert "its log has the reason under request id" in found["detail"]
    assert "secret" not in str(found)
