"""Artifacts of whole searches: where checkpoints are written, they are measured and removed."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from worker.artifacts import artifact_bytes, remove_artifacts

SEARCH = uuid.UUID(int=7)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/artifacts" if request.param == "file" else f"memory://{tmp_path.name}/artifacts"


def write(store: str, search_id: uuid.UUID, name: str, content: bytes) -> None:
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(store)
    filesystem.makedirs(f"{root}/{search_id}", exist_ok=True)
    filesystem.pipe_file(f"{root}/{search_id}/{name}", content)


def test_one_search_and_no_other(store: str) -> None:
    other = uuid.uuid4()
    write(store, SEARCH, "supernet.safetensors", b"x" * 10)
    write(store, SEARCH, ".writing-1.safetensors", b"x" * 5)
    write(store, other, "supernet.safetensors", b"x" * 3)
    assert (artifact_bytes(store, SEARCH), artifact_bytes(store, other)) == (15, 3)
    remove_artifacts(store, SEARCH)
    assert (artifact_bytes(store, SEARCH), artifact_bytes(store, other)) == (0, 3)
    remove_artifacts(store, SEARCH)


def test_where_nothing_was_ever_written(store: str) -> None:
    assert artifact_bytes(store, SEARCH) == 0
    remove_artifacts(store, SEARCH)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo").write_bytes(b"x")
    directory = tmp_path / "artifacts" / str(SEARCH)
    directory.mkdir(parents=True)
    (directory / "link").symlink_to(precious)
    remove_artifacts(f"file://{tmp_path}/artifacts", SEARCH)
    assert not directory.exists()
    assert (precious / "photo").exists()


def test_the_reaper_does_without_torch() -> None:
    script = "import sys, worker.retention; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
