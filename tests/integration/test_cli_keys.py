"""``nasatlas keys`` on a real database: the configured one, or that of the state directory."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.cli.main import run
from app.db.engine import get_engine
from app.embedded.database import stack_database
from app.main import create_app
from app.settings import Settings, get_settings


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()  # the log of an application in this process
    assert run(["keys", *arguments, "--json"]) == 0, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def test_a_key_is_made_listed_used_and_revoked(api_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    made = answer_of(capsys, "create", "desk", "--owner", "alice", "--scope", "admin", "--rate-limit", "100")
    secret = made.pop("key")
    assert (len(secret), secret[:12]) == (47, made["prefix"])
    assert (made["name"], made["owner"], made["scopes"], made["state"]) == ("desk", "alice", ["admin"], "valid")
    (listed,) = answer_of(capsys, "list")["items"]
    assert listed == made
    settings = api_settings.model_copy(update={"authentication": "keys"})
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get("/search", headers=headers).status_code == 200
        assert answer_of(capsys, "list")["items"][0]["last_used_at"] is not None
        assert answer_of(capsys, "revoke", "desk")["state"] == "revoked"
        assert client.get("/search", headers=headers).status_code == 401
    assert answer_of(capsys, "list")["items"][0]["state"] == "revoked"


@pytest.mark.usefixtures("api_settings")
class TestForPeople:
    def test_the_key_is_printed_this_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["keys", "create", "desk", "--owner", "alice"]) == 0
        secret = capsys.readouterr().out.split()[0]
        assert secret.startswith("nas_")
        assert run(["keys", "list"]) == 0
        listed = capsys.readouterr().out
        assert f"{secret[:12]}..." in listed
        assert secret not in listed
        assert run(["keys", "revoke", f"{secret[:12]}..."]) == 0
        assert "alice is revoked" in capsys.readouterr().out

    def test_expiry(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = answer_of(capsys, "create", "desk", "--owner", "alice", "--expires-days", "7")
        assert made["created_at"] < made["expires_at"]
        with get_engine(get_settings().required_database_url()).begin() as connection:
            days = connection.execute(text("select extract(epoch from expires_at - created_at) / 86400 from api_keys"))
            assert float(days.scalar_one()) == pytest.approx(7, abs=0.01)
            connection.execute(text("update api_keys set expires_at = now()"))
        assert answer_of(capsys, "list")["items"][0]["state"] == "expired"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["create", "desk"],
            ["create", "desk", "--owner", " "],
            ["create", "", "--owner", "alice"],
            ["create", "desk", "--owner", "alice", "--scope", "root"],
            ["create", "desk", "--owner", "alice", "--rate-limit", "0"],
            ["create", "desk", "--owner", "alice", "--expires-days", "-1"],
            ["revoke", "nobody"],
            ["forge"],
        ],
    )
    def test_bad_requests_end_with_2(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        assert run(["keys", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.err
        assert "Traceback" not in captured.err

    def test_a_name_that_several_have(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = [answer_of(capsys, "create", "desk", "--owner", "alice") for _ in range(2)]
        assert run(["keys", "revoke", "desk"]) == 2
        assert made[0]["prefix"] in capsys.readouterr().err
        assert answer_of(capsys, "revoke", made[0]["id"])["state"] == "revoked"
        assert answer_of(capsys, "revoke", "desk")["id"] == made[1]["id"]


def test_a_database_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_database_url: str
) -> None:
    for url, says in (
        ("postgresql+psycopg://nobody:hidden@127.0.0.1:1/none", "NASATLAS_DATABASE_URL"),
        (empty_database_url, "app.db.migrate"),
    ):
        monkeypatch.setenv("NASATLAS_DATABASE_URL", url)
        get_settings.cache_clear()
        assert run(["keys", "list"]) == 3
        error = capsys.readouterr().err
        assert says in error
        assert "hidden" not in error
        get_engine(url).dispose()
    get_settings.cache_clear()


def test_the_state_directorys_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first `nasatlas serve --host 0.0.0.0`, which does not start without a key."""
    monkeypatch.delenv("NASATLAS_DATABASE_URL", raising=False)
    monkeypatch.setenv("NASATLAS_STATE_DIR", str(tmp_path / "state"))
    get_settings.cache_clear()
    made = answer_of(capsys, "create", "desk", "--owner", "alice", "--scope", "admin")
    assert [key["id"] for key in answer_of(capsys, "list")["items"]] == [made["id"]]
    with stack_database(tmp_path / "state"):
        assert run(["keys", "list"]) == 3, "somebody else works on it"
    get_settings.cache_clear()
