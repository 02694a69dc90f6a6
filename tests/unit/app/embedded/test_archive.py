"""The file of a backup: what is read is what was written, and whatever happened to it in between is found."""

import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.embedded.archive import CONTENTS, BackupError, check_archive, new_archive, read_archive

FILES = {"database.dump": b"d" * 3000, "artifacts/a/b": b"", "uploads/ü": b"x"}


def write(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with new_archive(path, {"schema_revision": "0007"}) as archive:
        for name, content in files.items():
            archive.add(name, io.BytesIO(content))
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "backup.tar")
    read = {name: file.read() for name, file in read_archive(path)}
    assert list(read) == [*FILES, CONTENTS]
    assert {name: content for name, content in read.items() if name != CONTENTS} == FILES
    contents = check_archive(path)
    assert contents["schema_revision"] == "0007"
    assert contents["files"]["database.dump"]["bytes"] == 3000


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    """The hashes of keys are in it."""
    path = write(tmp_path / "backup.tar")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_added_from_its_beginning(tmp_path: Path) -> None:
    file = io.BytesIO(b"0123")
    file.seek(2)
    with new_archive(tmp_path / "backup.tar", {}) as archive:
        archive.add("a", file)
    assert {name: read.read() for name, read in read_archive(tmp_path / "backup.tar")}["a"] == b"0123"


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(ValueError, match="closed file"), new_archive(path, {}) as archive:
        archive.add("a", closed)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"mine")
    with pytest.raises(BackupError, match="exists already; choose another name"), new_archive(path, {}):
        pass
    assert path.read_bytes() == b"mine"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), value=st.integers(1, 255))
def test_a_changed_byte_is_found_wherever_it_counts(tmp_path: Path, position: int, value: int) -> None:
    """Or it changed nothing that is read: padding between the files, and times in their headers."""
    path = tmp_path / "backup.tar"
    if not path.exists():
        write(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= value
    (tmp_path / "changed.tar").write_bytes(content)
    try:
        check_archive(tmp_path / "changed.tar")
    except BackupError:
        return
    read = {name: file.read() for name, file in read_archive(tmp_path / "changed.tar")}
    assert {name: data for name, data in read.items() if name != CONTENTS} == FILES


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_one_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "backup.tar", {"a": b"x" * 20_000})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackupError, match=r"is no backup|not a whole one|no whole backup"):
        check_archive(path)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def linked(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("artifacts/../../escaped"),
        tarfile.TarInfo("/etc/passwd"),
        linked("artifacts/link", tarfile.SYMTYPE, "/etc/passwd"),
        linked("artifacts/link", tarfile.LNKTYPE, "other"),
        linked("artifacts/fifo", tarfile.FIFOTYPE, ""),
    ],
    ids=lambda info: f"{info.name} {info.type!r}",
)
def test_names_that_lead_out_of_it(tmp_path: Path, member: tarfile.TarInfo) -> None:
    with pytest.raises(BackupError, match="is no backup"):
        check_archive(tar_of(tmp_path / "evil.tar", (member, b"")))


@pytest.mark.parametrize("contents", [[], {}, {"format": 0, "files": {}}, {"format": 1}])
def test_a_list_that_is_none_or_of_another_version(tmp_path: Path, contents: Any) -> None:
    listed = (tarfile.TarInfo(CONTENTS), json.dumps(contents).encode())
    with pytest.raises(BackupError, match=r"no whole backup|is damaged"):
        check_archive(tar_of(tmp_path / "other.tar", listed))
