"""Who may what: keys, scopes, owners; that nothing is open by accident; and refusing to start where it is unsafe."""

import datetime as dt
import io
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db.engine import get_engine, transaction
from app.logging import configure_logging
from app.main import create_app
from app.services import api_keys
from app.services.access import UnsafeToStartError
from app.settings import Settings

TINY = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40}
OPEN = {"/healthz", "/readyz", "/docs", "/openapi.json", "/login", "/logout", "/ui/static"}


def paths_of(app: Any) -> Iterator[tuple[str, str]]:
    """Every method and path that the application serves, ids filled in."""
    for route in iter_route_contexts(app.routes):
        path = (route.path_format or "").format(
            search_id=uuid.uuid4(), round_index=0, code="0", slug="x", subspace_index=0, name="x", rest="x", path="x"
        )
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, path


class TestKeys:
    def test_nothing_is_open_by_accident(self, keyed_client: TestClient) -> None:
        asked = [(m, p) for m, p in paths_of(keyed_client.app) if p not in OPEN and not p.startswith("/problems")]
        assert len(asked) >= 12
        for method, path in asked:
            response = keyed_client.request(method, path)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="nasatlas"'), (
                path
            )
            if path == "/" or path.startswith("/ui"):
                assert response.headers["content-type"] == "text/html; charset=utf-8"
            else:
                assert response.headers["content-type"] == "application/problem+json"
            assert "nasatlas keys create" in response.text

    def test_what_is_open_needs_none(self, keyed_client: TestClient) -> None:
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert keyed_client.get(path).status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer nas_wrong",
            "Bearer ",
            "Basic abc",
            "Bearer nas_" + "x" * 10_000,
            "nas_x",
            "Bearer n\xe4s",
            "Bearer a b",
        ],
    )
    def test_headers_that_are_no_valid_key(self, keyed_client: TestClient, header: str) -> None:
        response = keyed_client.get("/search", headers={"Authorization": header.encode("latin-1")})
        assert response.status_code == 401
        assert "wrong" not in response.text

    def test_one_that_is_valid(self, keyed_client: TestClient, keys: Any) -> None:
        secret = keys.secret()
        for scheme in ("Bearer", "bearer"):
            assert keyed_client.get("/search", headers={"Authorization": f"{scheme} {secret}"}).status_code == 200
        assert keyed_client.get("/search", headers={"Authorization": f"Bearer {secret[:-1]}"}).status_code == 401

    def test_expired_and_revoked_ones_are_invalid_at_once(self, keyed_client: TestClient, keys: Any) -> None:
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        assert keyed_client.get("/search", headers=keys.of(expires_at=past)).status_code == 401
        future = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        headers = keys.of(expires_at=future, name="laptop")
        assert keyed_client.get("/search", headers=headers).status_code == 200
        with transaction(keys.engine) as session:
            api_keys.revoke(session, "laptop")
        assert keyed_client.get("/search", headers=headers).status_code == 401

    def test_only_hashes_are_stored(self, keyed_client: TestClient, keys: Any) -> None:
        secret = keys.secret()
        keyed_client.get("/search", headers={"Authorization": f"Bearer {secret}"})
        with keys.engine.connect() as connection:
            stored = str(connection.execute(text("select * from api_keys")).all())
            used = connection.execute(text("select count(*) from api_keys where last_used_at is not null")).scalar_one()
        assert secret[:12] in stored
        assert secret[12:] not in stored
        assert used == 1

    def test_a_rate_limit_is_per_key(self, keyed_client: TestClient, keys: Any) -> None:
        headers = keys.of(rate_limit_per_minute=3)
        assert [keyed_client.get("/search", headers=headers).status_code for _ in range(4)] == [200] * 3 + [429]
        refused = keyed_client.get("/search", headers=headers)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["content-type"] == "application/problem+json"
        assert "3 requests a minute" in refused.json()["detail"]
        assert keyed_client.get("/search", headers=keys.of(rate_limit_per_minute=3)).status_code == 200
        assert keyed_client.get("/healthz", headers=headers).status_code == 200


class TestScopes:
    def test_read_may_not_submit(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        headers = keys.of(scope="read")
        search = factory.search(owner="alice", state="queued", num_tables=0)
        assert keyed_client.get(f"/search/{search.id}", headers=headers).status_code == 200
        for method, path in (
            ("POST", "/search"),
            ("POST", f"/search/{search.id}/cancel"),
            ("POST", f"/search/{search.id}/resume"),
            ("DELETE", f"/search/{search.id}"),
        ):
            response = keyed_client.request(method, path, json=TINY if path == "/search" else None, headers=headers)
            assert response.status_code == 403, path
            assert "the scope submit; this key has read" in response.json()["detail"]

    def test_submit_implies_read_and_admin_both(self, keyed_client: TestClient, keys: Any) -> None:
        for scope in ("submit", "admin"):
            headers = keys.of(scope=scope)
            assert keyed_client.get("/search", headers=headers).status_code == 200
            assert keyed_client.post("/search", json=TINY, headers=headers).status_code == 202

    def test_metrics_are_for_administrators_and_for_the_holder_of_their_token(
        self, keyed_settings: Settings, keys: Any
    ) -> None:
        admin, submit = keys.of("root", "admin"), keys.of()
        settings = Settings.model_validate({**keyed_settings.model_dump(), "metrics_token": "scrape-me"})
        with TestClient(create_app(settings)) as client:
            scraper = {"Authorization": "Bearer scrape-me"}
            statuses = [client.get("/metrics", headers=h).status_code for h in (admin, scraper, submit, {})]
            assert statuses == [200, 200, 403, 401]
            assert client.get("/search", headers=scraper).status_code == 401
            assert client.get("/metrics", headers={"Authorization": "Bearer scrape-m"}).status_code == 401


class TestOwners:
    def test_anothers_search_does_not_exist(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        search, gone = factory.search(owner="alice"), uuid.uuid4()
        code = search.tables[0].subspace.codes([0])[0]
        alice, bob, admin = keys.of("alice"), keys.of("bob"), keys.of("root", "admin")
        for method, path in (
            ("GET", "/search/{}"),
            ("GET", "/search/{}/rounds/0"),
            ("GET", "/search/{}/pairs"),
            ("GET", f"/search/{{}}/architectures/{code}"),
            ("GET", "/search/{}/events"),
            ("GET", "/lookup?search_id={}"),
            ("GET", "/lookup/pareto?search_id={}"),
            ("GET", "/lookup?scope=space&search_id={}"),
            ("POST", "/search/{}/cancel"),
            ("POST", "/search/{}/resume"),
            ("DELETE", "/search/{}"),
        ):
            theirs = keyed_client.request(method, path.format(search.id), headers=bob)
            nobodys = keyed_client.request(method, path.format(gone), headers=bob)
            assert theirs.status_code == nobodys.status_code == 404, path
            # nothing tells one from the other
            assert theirs.text.replace(str(search.id), "ID") == nobodys.text.replace(str(gone), "ID")
            if method == "GET":
                expected = 409 if "scope=space" in path else 200  # its whole space is not fitted
                for headers in (alice, admin):
                    assert keyed_client.get(path.format(search.id), headers=headers).status_code == expected, path

    def test_lists_show_ones_own_and_an_administrator_all(
        self, keyed_client: TestClient, keys: Any, factory: Any
    ) -> None:
        of_alice, of_bob, of_nobody = (
            str(factory.search(owner=owner, num_tables=0).id) for owner in ("alice", "bob", None)
        )

        def listed(headers: dict[str, str]) -> list[str]:
            return [s["id"] for s in keyed_client.get("/search", headers=headers).json()["items"]]

        assert listed(keys.of("alice")) == [of_alice]
        assert listed(keys.of("alice", "read")) == [of_alice]
        assert listed(keys.of("carol")) == []
        assert listed(keys.of("root", "admin")) == [of_nobody, of_bob, of_alice]

    def test_a_lookup_asks_the_latest_search_of_ones_own(
        self, keyed_client: TestClient, keys: Any, factory: Any
    ) -> None:
        of_alice, of_bob = (str(factory.search(owner=owner).id) for owner in ("alice", "bob"))
        for path in ("/lookup", "/lookup/pareto"):
            for headers, expected in (
                (keys.of("alice"), of_alice),
                (keys.of("bob"), of_bob),
                (keys.of("root", "admin"), of_bob),
            ):
                assert keyed_client.get(path, headers=headers).json()["search_id"] == expected
            assert keyed_client.get(path, headers=keys.of("carol")).status_code == 404

    def test_a_submitted_search_is_the_keys_owners(self, keyed_client: TestClient, keys: Any) -> None:
        search = keyed_client.post("/search", json=TINY, headers=keys.of("alice", name="desk")).json()
        path = f"/search/{search['id']}"
        assert keyed_client.get(path, headers=keys.of("alice", name="laptop")).status_code == 200
        assert keyed_client.get(path, headers=keys.of("bob")).status_code == 404

    def test_idempotency_keys_are_per_owner(self, keyed_client: TestClient, keys: Any) -> None:
        ids = []
        for owner in ("alice", "bob", "alice"):
            headers = {**keys.of(owner), "Idempotency-Key": "same"}
            ids.append(keyed_client.post("/search", json=TINY, headers=headers).json()["id"])
        assert ids[0] == ids[2] != ids[1]

    def test_events_end_when_the_key_is_revoked(self, keyed_client: TestClient, keys: Any, factory: Any) -> None:
        search = factory.search(owner="alice", state="running", num_tables=0)
        headers, received = keys.of(name="stream"), []
        with keyed_client.stream("GET", f"/search/{search.id}/events", headers=headers) as response:
            for line in response.iter_lines():
                if line.startswith("event:"):
                    received.append(line)
                    with transaction(keys.engine) as session:
                        api_keys.revoke(session, "stream")
        assert received == ["event: state"]

    def test_events_end_when_the_search_is_deleted(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="failed", num_tables=0)
        factory.change(search.id, state="running")
        received = []
        with client.stream("GET", f"/search/{search.id}/events") as response:
            for line in response.iter_lines():
                if line.startswith("event:"):
                    received.append(line)
                    with transaction(factory.engine) as session:
                        session.execute(text("delete from searches"))
        assert received == ["event: state"]


class TestWithoutKeys:
    def test_everybody_is_everybody_also_with_a_key(self, client: TestClient, keys: Any, factory: Any) -> None:
        search = factory.search(owner="alice", num_tables=0)
        for headers in ({}, keys.of("bob"), {"Authorization": "Bearer nas_x"}):
            assert client.get(f"/search/{search.id}", headers=headers).status_code == 200

    def test_a_server_that_listens_elsewhere_than_it_was_told_needs_keys(self, api_settings: Settings) -> None:
        app = create_app(api_settings)
        with TestClient(app, base_url="http://192.0.2.7:8000") as client:
            assert client.get("/search").status_code == 401
            assert client.get("/healthz").status_code == 200
        for address in ("http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000"):
            with TestClient(app, base_url=address) as client:
                assert client.get("/search").status_code == 200

    def test_none_means_none(self, api_settings: Settings) -> None:
        open_settings = api_settings.model_copy(update={"authentication": "none", "host": "0.0.0.0"})
        with TestClient(create_app(open_settings), base_url="http://192.0.2.7:8000") as client:
            assert client.get("/search").status_code == 200

    @pytest.mark.parametrize(
        "changes", [{}, {"authentication": "none", "host": "0.0.0.0"}], ids=["on loopback", "as compose has it"]
    )
    def test_the_names_of_others_are_refused(self, api_settings: Settings, changes: dict[str, str]) -> None:
        """DNS rebinding: a page of attacker.example asks attacker.example, which is 127.0.0.1 by now."""
        settings = api_settings.model_copy(update={**changes, "allowed_hosts": frozenset({"atlas.example.org"})})
        search_id = uuid.uuid4()
        with TestClient(create_app(settings)) as client:
            for host, is_ours in (
                ("attacker.example", False),
                ("attacker.example:8000", False),
                ("attacker.example.:8000", False),
                ("127.0.0.1.attacker.example", False),
                ("sub.atlas.example.org", False),
                ("localhost:8000", True),
                ("127.0.0.1:8000", True),
                ("[::1]:8000", True),
                ("atlas.localhost", True),
                ("api:8000", True),
                ("atlas.example.org", True),
                ("ATLAS.example.org:8000", True),
            ):
                headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
                assert client.get("/search", headers=headers).status_code == (200 if is_ours else 403), host
                deleted = client.delete(f"/search/{search_id}", headers=headers)
                assert deleted.status_code == (404 if is_ours else 403), host
            refused = client.get("/metrics", headers={"Host": "attacker.example"})
            assert "NASATLAS_ALLOWED_HOSTS" in refused.json()["detail"]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 202),
            ({"Origin": "http://testserver"}, 202),
            ({"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}, 202),
            ({"Origin": "http://attacker.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
        ],
    )
    def test_other_sites_pages_change_nothing(self, client: TestClient, headers: dict[str, str], status: int) -> None:
        """On loopback the browser of the machine's user reaches us, whatever page it shows."""
        assert client.post("/search", json=TINY, headers=headers).status_code == status
        assert client.get("/search", headers=headers).status_code == 200


class TestStart:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"authentication": "keys"}, "NASATLAS_AUTHENTICATION is keys"),
            ({"host": "0.0.0.0"}, "listens on 0.0.0.0, which others can reach"),
            ({"host": "atlas.example.org"}, "listens on atlas.example.org"),
        ],
    )
    def test_refused_without_an_administrator(
        self, api_settings: Settings, keys: Any, changes: dict[str, str], says: str
    ) -> None:
        settings = api_settings.model_copy(update=changes)
        keys.secret("alice", "submit")
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        keys.secret("root", "admin", expires_at=past)
        with pytest.raises(UnsafeToStartError, match=rf"(?s){says}.*nasatlas keys create"):
            create_app(settings)
        keys.secret("root", "admin")
        create_app(settings)

    def test_refused_without_a_schema_or_a_database(self, keyed_settings: Settings, empty_database_url: str) -> None:
        with pytest.raises(UnsafeToStartError, match=r"app\.db\.migrate"):
            create_app(keyed_settings.model_copy(update={"database_url": empty_database_url}))
        get_engine(empty_database_url).dispose()
        away = "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none"
        with pytest.raises(UnsafeToStartError, match="cannot be reached") as caught:
            create_app(keyed_settings.model_copy(update={"database_url": away}))
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.53"])
    def test_not_on_loopback(self, api_settings: Settings, host: str) -> None:
        create_app(api_settings.model_copy(update={"host": host}))

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_the_server_ends_with_the_message_alone(
        self, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, processes: str
    ) -> None:
        monkeypatch.setenv("NASATLAS_HOST", "0.0.0.0")
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:served_app", "--port", "0"]
        command += ["--workers", processes, "--loop", "app.server_loop:ServerLoop"]
        # of several processes uvicorn's parent ends with 0
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode or processes != "1"
        assert "NAS Atlas does not start" in ended.stderr
        assert "Traceback" not in ended.stderr + ended.stdout


def test_the_document_says_how_where_keys_are_needed(keyed_client: TestClient, client: TestClient) -> None:
    schemes = keyed_client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_secrets_are_never_logged(
    keyed_settings: Settings, keys: Any, monkeypatch: pytest.MonkeyPatch, factory: Any
) -> None:
    """Through good requests, refused ones, a login and a crash, at the most talkative level."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    good, bad = keys.secret("root", "admin"), "nas_this-one-was-mistyped"
    settings = Settings.model_validate(
        {**keyed_settings.model_dump(), "log_level": "DEBUG", "metrics_token": "scrape-me", "api_key": good}
    )
    try:
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            for secret in (good, bad, "scrape-me"):
                for path in ("/search", "/metrics", "/lookup"):
                    client.get(path, headers={"Authorization": f"Bearer {secret}"})
                client.post("/login", data={"key": secret}, follow_redirects=False)
            client.post("/login", data={"key": [good, good]})
            session = client.cookies["nasatlas_session"]

            def broken(*_: object) -> None:
                raise RuntimeError("crash")

            factory.search(num_tables=0)
            monkeypatch.setattr("app.services.search_view.summaries", broken)
            assert client.get("/search", headers={"Authorization": f"Bearer {good}"}).status_code == 500
            assert client.get("/search").status_code == 500
        log = written.getvalue()
        assert any(json.loads(line)["event"] == "request failed" for line in log.splitlines())
        for secret in (good, bad, "scrape-me", session):
            assert secret not in log + repr(settings)
            assert secret[4:] not in log
    finally:
        monkeypatch.undo()
        configure_logging("INFO", "json")


def test_every_route_is_known_here(client: TestClient) -> None:
    """A route of another kind (a mount, a plain Starlette route) has no dependencies, hence no authentication."""
    plain = [route for route in client.app.routes if not isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    assert {getattr(route, "path", None) for route in plain} - OPEN - {None} == set()
