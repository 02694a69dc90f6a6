"""A browser logs in with a key, is known by a cookie that scripts cannot read, and other sites' pages cannot use it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db.engine import transaction
from app.main import create_app
from app.services import api_keys
from app.settings import Settings

TINY = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40}
OURS = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}


def log_in(client: TestClient, key: str, **headers: str) -> Any:
    return client.post("/login", data={"key": key}, headers=OURS | headers, follow_redirects=False)


def test_the_cookie(keyed_client: TestClient, keys: Any) -> None:
    secret = keys.secret()
    response = log_in(keyed_client, secret)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    name, _, rest = response.headers["set-cookie"].partition("=")
    value, *attributes = rest.split("; ")
    assert name == "nasatlas_session"
    assert {a.lower() for a in attributes} == {"httponly", "max-age=43200", "path=/", "samesite=strict"}
    assert secret not in response.headers["set-cookie"]
    with keys.engine.connect() as connection:
        assert value not in str(connection.execute(text("select * from login_sessions")).all())


def test_is_secure_over_https(keyed_settings: Settings, keys: Any) -> None:
    keys.secret("root", "admin")
    with TestClient(create_app(keyed_settings), base_url="https://atlas.example.org") as client:
        cookie = log_in(client, keys.secret(), Origin="https://atlas.example.org").headers["set-cookie"]
    assert "secure" in cookie.lower().split("; ")


def test_opens_what_the_key_opens(keyed_client: TestClient, keys: Any, factory: Any) -> None:
    mine, others = (str(factory.search(owner=owner, num_tables=0).id) for owner in ("alice", "bob"))
    log_in(keyed_client, keys.secret("alice", "read"))
    assert [s["id"] for s in keyed_client.get("/search").json()["items"]] == [mine]
    assert keyed_client.get(f"/search/{others}").status_code == 404
    assert keyed_client.post("/search", json=TINY, headers=OURS).status_code == 403


def test_a_bearer_token_comes_before_the_cookie(keyed_client: TestClient, keys: Any) -> None:
    log_in(keyed_client, keys.secret("alice", "read"))
    assert keyed_client.post("/search", json=TINY, headers=keys.of("bob")).status_code == 202
    assert keyed_client.get("/search", headers={"Authorization": "Bearer nas_x"}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OURS, 202),
        ({"Origin": "http://testserver"}, 202),
        ({}, 202),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "http://attacker.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.testserver", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_sites_pages_cannot_use_it(
    keyed_client: TestClient, keys: Any, headers: dict[str, str], status: int
) -> None:
    log_in(keyed_client, keys.secret())
    response = keyed_client.post("/search", json=TINY, headers=headers)
    assert response.status_code == status
    assert response.status_code != 403 or "another site's page" in response.json()["detail"]


def test_a_bearer_token_is_sent_on_purpose(keyed_client: TestClient, keys: Any) -> None:
    headers = keys.of() | {"Origin": "http://notebook.example", "Sec-Fetch-Site": "cross-site"}
    assert keyed_client.post("/search", json=TINY, headers=headers).status_code == 202


def test_other_sites_pages_can_neither_log_in_nor_out(keyed_client: TestClient, keys: Any) -> None:
    theirs = {"Origin": "http://attacker.example", "Sec-Fetch-Site": "cross-site"}
    assert log_in(keyed_client, keys.secret(), **theirs).status_code == 403
    assert "nasatlas_session" not in keyed_client.cookies
    log_in(keyed_client, keys.secret())
    assert keyed_client.post("/logout", headers=theirs).status_code == 403
    assert keyed_client.get("/search").status_code == 200


def test_logging_out_ends_it_also_for_who_kept_the_cookie(keyed_client: TestClient, keys: Any) -> None:
    log_in(keyed_client, keys.secret())
    kept = keyed_client.cookies["nasatlas_session"]
    response = keyed_client.post("/logout", headers=OURS, follow_redirects=False)
    assert response.status_code == 303
    assert "nasatlas_session" not in keyed_client.cookies
    again = keyed_client.get("/search", headers={"Cookie": f"nasatlas_session={kept}"})
    assert (again.status_code, "log in again" in again.json()["detail"]) == (401, True)
    assert keyed_client.post("/logout", headers=OURS, follow_redirects=False).status_code == 303


def test_ends_with_its_time_and_with_its_key(keyed_client: TestClient, keys: Any) -> None:
    for end in ("time", "key"):
        log_in(keyed_client, keys.secret(name="pages"))
        assert keyed_client.get("/search").status_code == 200
        with transaction(keys.engine) as session:
            if end == "time":
                session.execute(text("update login_sessions set expires_at = now()"))
                session.execute(text("update api_keys set name = 'old' where name = 'pages'"))
            else:
                api_keys.revoke(session, "pages")
        assert keyed_client.get("/search").status_code == 401
    log_in(keyed_client, keys.secret())
    with keys.engine.connect() as connection:
        assert connection.execute(text("select count(*) from login_sessions")).scalar_one() == 1, (
            "the old are forgotten"
        )


@pytest.mark.parametrize("data", [{}, {"key": ""}, {"key": ["nas_a", "nas_b"]}, {"other": "nas_a"}])
def test_forms_without_one_key(keyed_client: TestClient, data: dict[str, Any]) -> None:
    response = keyed_client.post("/login", data=data)
    assert response.status_code == 422
    assert "nas_a" not in response.text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"key=nas_%ff%00", b"key=nas_x", b'{"key": "nas_x"}', b"&" * 5000])
def test_bodies_that_are_no_valid_key(keyed_client: TestClient, body: bytes) -> None:
    response = keyed_client.post("/login", content=body)
    assert response.status_code in (401, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in response.headers


def test_cookies_that_are_none(keyed_client: TestClient) -> None:
    for value in ("x", "", "x" * 5000):
        response = keyed_client.get("/search", headers={"Cookie": f"nasatlas_session={value}"})
        assert response.status_code == 401
