"""Pages: what somebody names is text in them, errors are pages as well, and static files change their address."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from starlette.responses import Response

from app.dashboard import rendering
from app.dashboard.rendering import PAGE_POLICY, PageRoute, page, static_url
from app.errors import SearchNotFoundError, UnauthorizedError, UnknownPathError
from app.settings import Settings

router = APIRouter(route_class=PageRoute)


@router.get("/ui/missing")
def missing() -> None:
    raise SearchNotFoundError(detail="there is no search <script>alert(1)</script>")


@router.get("/ui/locked")
def locked() -> None:
    raise UnauthorizedError(detail="an API key is needed")


@router.get("/ui/away")
def away() -> None:
    raise OperationalError("select 1", {}, Exception("password of the database"))


@router.get("/ui/numbers/{number}")
def number(number: int) -> None:
    """Takes a number."""


@router.get("/ui/page")
def shown(request: Request) -> Response:
    return page(request, "error.html", problem=UnknownPathError(detail="d"))


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.state.settings = Settings(host="127.0.0.1")
    app.include_router(router)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_no_script_of_anybody_runs(client: TestClient) -> None:
    """Whatever a search or a path is called, it is text; and the policy forbids what is inline all the same."""
    answer = client.get("/ui/missing")
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    for path in ("/ui/missing", "/ui/page"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy == PAGE_POLICY
        assert "'unsafe" not in policy
        assert "default-src 'none'" in policy


def test_the_part_of_a_page_gets_a_note_and_no_page(client: TestClient) -> None:
    answer = client.get("/ui/missing", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert 'role="alert"' in answer.text
    assert "<html" not in answer.text
    assert "<html" in client.get("/ui/missing").text


def test_who_has_no_key_is_asked_for_one(client: TestClient) -> None:
    answer = client.get("/ui/locked")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == UnauthorizedError.challenge
    assert 'type="password"' in answer.text


def test_a_path_that_cannot_be_one_is_unknown(client: TestClient) -> None:
    answer = client.get("/ui/numbers/seven")
    assert answer.status_code == 404
    assert "There is no page at /ui/numbers/seven" in answer.text


def test_a_database_that_is_away_is_a_page_without_its_secrets(client: TestClient) -> None:
    answer = client.get("/ui/away")
    assert answer.status_code == 503
    assert "the page comes back as soon as it does" in answer.text
    assert "password of the database" not in answer.text


def test_static_files_have_their_digest_in_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers keep them for ever: another version has another address."""
    monkeypatch.setattr(rendering, "STATIC", tmp_path)
    addresses = []
    for content in ("a", "b", "a"):
        (tmp_path / "atlas.css").write_text(content)
        static_url.cache_clear()
        addresses.append(static_url("atlas.css"))
    static_url.cache_clear()
    assert addresses[0] == addresses[2] != addresses[1]
    assert addresses[0].startswith("/ui/static/atlas.css?v=")
    with pytest.raises(FileNotFoundError):
        static_url("nothing.js")
