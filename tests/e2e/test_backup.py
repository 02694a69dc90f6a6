"""A backup of a stack at work: everything is lost, comes back, and the search ends as it would have."""

import json
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Select, create_engine, select

from app.cli.main import run
from app.db.engine import transaction
from app.db.models import DeletedSearchRow, SearchRow
from app.embedded.database import stack_database
from app.embedded.stack import Stack
from app.settings import get_settings
from tests.e2e.conftest import TINY_SEARCH

TIMEOUT_S = 240.0


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in {"LEASE_S": "4", "HEARTBEAT_S": "0.3", "REAP_S": "1", "SHARD_SIZE": "6"}.items():
        monkeypatch.setenv(f"NASATLAS_{name}", value)
    for name in ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DATA_ROOT", "UPLOAD_ROOT", "URL"):
        monkeypatch.delenv(f"NASATLAS_{name}", raising=False)
    monkeypatch.setenv("NASATLAS_STATE_DIR", str(tmp_path / "state"))
    get_settings.cache_clear()
    yield tmp_path / "state"
    get_settings.cache_clear()


def follow(stack: Stack, search_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT_S
    with httpx2.Client(base_url=stack.url, timeout=30.0) as client:
        while time.monotonic() < deadline:
            search: dict[str, Any] = client.get(f"/search/{search_id}").raise_for_status().json()
            if until(search):
                return search
            time.sleep(0.05)
    pytest.fail(f"the search is still {search}")


def ended(search: dict[str, Any]) -> bool:
    return search["state"] in ("succeeded", "failed", "cancelled")


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_dump_wipe_restore_and_the_search_goes_on(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stack(state_dir) as stack:
        search_id = httpx2.post(f"{stack.url}/search", json=TINY_SEARCH | {"seed": 5}).json()["id"]
        follow(stack, search_id, lambda search: search["rounds"][0]["num_sampled"] > 0)
        written = answer_of(capsys, "backup", str(tmp_path))
        assert run(["restore", written["path"], "--replace"]) == 3, "not under a running stack"
        undisturbed = follow(stack, search_id, ended)
    assert undisturbed["state"] == "succeeded", undisturbed["error"]
    assert written["num_artifacts"] >= 1
    assert Path(written["path"]).stat().st_mode & 0o077 == 0
    placed = (state_dir / "postgres").resolve()
    shutil.rmtree(placed)
    shutil.rmtree(state_dir)

    restored = answer_of(capsys, "restore", written["path"])
    assert restored["num_artifacts"] == written["num_artifacts"]
    assert run(["restore", written["path"]]) == 2, "there are searches by now"
    assert "--replace" in capsys.readouterr().err
    with Stack(state_dir) as stack:
        found = httpx2.get(f"{stack.url}/search/{search_id}").json()
        assert found["state"] in ("queued", "running")
        assert found["rounds"][0]["num_sampled"] > 0, "what was evaluated before the backup is there"
        resumed = follow(stack, search_id, ended)
    assert resumed["state"] == "succeeded", resumed["error"]
    assert [one["table_digest"] for one in resumed["rounds"]] == [one["table_digest"] for one in undisturbed["rounds"]]


def store_search(state_dir: Path) -> str:
    """Put a search into the stack's database, which is not running, and return its id."""
    values = {"dataset": "digits", "preset": "quick", "search_space": {}, "config": {}, "num_rounds": 1, "request": {}}
    with stack_database(state_dir) as url:
        engine = create_engine(url)
        with transaction(engine) as session:
            search = SearchRow(**values)
            session.add(search)
            session.flush()
        engine.dispose()
    return str(search.id)


def stored_searches(state_dir: Path) -> list[str]:
    return _ids(state_dir, select(SearchRow.id))


def tombstones(state_dir: Path) -> list[str]:
    return _ids(state_dir, select(DeletedSearchRow.search_id))


def _ids(state_dir: Path, query: Select[tuple[uuid.UUID]]) -> list[str]:
    with stack_database(state_dir) as url:
        engine = create_engine(url)
        with transaction(engine) as session:
            found = [str(search_id) for search_id in session.scalars(query)]
        engine.dispose()
    return found


def test_a_damaged_backup_changes_nothing(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search_id = store_search(state_dir)
    artifact = state_dir / "artifacts" / search_id / "supernet.safetensors"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"w" * 5000)
    image, unfinished = (state_dir / "uploads" / name for name in ("the-id/mine/a/0.png", ".incoming-other/archive"))
    for path in (image, unfinished):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"image")
    written = answer_of(capsys, "backup", str(tmp_path / "whole.tar"))
    assert (written["num_artifacts"], written["num_upload_files"]) == (1, 1)
    whole = Path(written["path"])
    assert run(["backup", str(whole)]) == 2, "nothing is overwritten"
    content = whole.read_bytes()
    position = content.index(b"w" * 5000) + 100
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        tar.addfile(tarfile.TarInfo("artifacts/../../escaped"))
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as tar:
        info = tarfile.TarInfo("artifacts/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    cases = {
        "cut": content[: len(content) // 2],
        "cut at a boundary": content[: content.index(b"contents.json") // 512 * 512],
        "changed": content[:position] + b"x" + content[position + 1 :],
        "empty": b"",
        "text": b"no backup",
        "evil": evil.read_bytes(),
        "linked": linked.read_bytes(),
    }
    for name, data in cases.items():
        (tmp_path / "damaged.tar").write_bytes(data)
        assert run(["restore", str(tmp_path / "damaged.tar"), "--replace"]) == 2, name
        assert "backup" in capsys.readouterr().err, name
    assert run(["restore", str(tmp_path / "nothing.tar")]) == 1
    assert not (tmp_path / "escaped").exists()
    replaced = store_search(state_dir)
    artifact.unlink()
    shutil.rmtree(state_dir / "uploads")
    assert run(["restore", str(whole), "--replace"]) == 0
    assert image.read_bytes() == b"image"
    assert not unfinished.exists()
    assert stored_searches(state_dir) == [search_id]
    assert tombstones(state_dir) == [replaced], "its artifacts are removed by the reaper"
    assert artifact.read_bytes() == b"w" * 5000
