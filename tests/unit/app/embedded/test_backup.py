"""Backups that are refused before any server is started. What one brings back is in the tests of whole services."""

from pathlib import Path

import fsspec
import pytest

from app.embedded.archive import BackupError, new_archive
from app.embedded.backup import _artifact_names, _artifacts, back_up, restore


def no_phase(_: str) -> None:
    """Nobody watches."""


def test_without_a_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    state_dir, target = tmp_path / "state", tmp_path / "backups"
    target.mkdir()
    with pytest.raises(BackupError, match=r"there is no database in .*state; set NASATLAS_STATE_DIR to the stack's"):
        back_up(state_dir, f"file://{tmp_path}/artifacts", tmp_path / "uploads", target, no_phase)
    assert list(target.iterdir()) == []
    assert not state_dir.exists()


@pytest.mark.parametrize("content", [b"", b"no backup", b"\0" * 10_240])
def test_what_is_no_backup_touches_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backup.tar").write_bytes(content)
    with pytest.raises(BackupError, match=r"no backup|no whole backup"):
        restored(tmp_path)


def test_a_backup_of_a_newer_version_names_it(tmp_path: Path) -> None:
    with new_archive(tmp_path / "backup.tar", {"nasatlas": "9.1.0", "schema_revision": "9999"}):
        pass
    with pytest.raises(
        BackupError, match=r"made by a newer version \(nasatlas 9\.1\.0, schema 9999\); restore it with"
    ):
        restored(tmp_path)


def restored(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    try:
        restore(
            tmp_path / "backup.tar", state_dir, f"file://{tmp_path}/a", tmp_path / "u", replace=True, on_phase=no_phase
        )
    finally:
        assert not state_dir.exists()


def test_what_is_still_being_written_is_left_out() -> None:
    """A checkpoint under its temporary name, and an upload that is not there yet."""
    filesystem = fsspec.filesystem("memory")
    for name in ("s/supernet", "s/.writing-supernet", ".incoming-1/archive", "u/mine/.incoming-class/0.png"):
        filesystem.pipe_file(f"/mirrored/{name}", b"x")
    assert list(_artifact_names(*_artifacts("memory://mirrored/"))) == ["s/supernet", "u/mine/.incoming-class/0.png"]
    assert list(_artifact_names(*_artifacts("memory://nothing"))) == []
