"""Archives that callers upload: what is taken, and that nothing hostile gets anywhere."""

import contextlib
import io
import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.domain import upload_archive
from app.domain.data_sets import DataSetError, load_images
from app.domain.upload_archive import ArchiveLimits, Unpacked, unpack_data_set

LIMITS = ArchiveLimits(max_unpacked_bytes=10**7, max_entries=50)


def png(shade: int = 0, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, shade).save(buffer, "PNG")
    return buffer.getvalue()


def packed(files: dict[Any, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive; a key is a name or a whole ZipInfo."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # duplicate names are what one test is about
        for name, content in files.items():
            archive.writestr(name, content, method)
    return buffer.getvalue()


def class_folders(prefix: str = "", num_classes: int = 2) -> dict[Any, bytes]:
    return {f"{prefix}class{c}/{i}.png": png(40 * c + i) for c in range(num_classes) for i in range(3)}


def unpack(tmp_path: Path, content: bytes, limits: ArchiveLimits = LIMITS) -> Unpacked:
    archive, target = tmp_path / "archive", tmp_path / "target"
    archive.write_bytes(content)
    target.mkdir()
    return unpack_data_set(archive, target, "mine", limits)


def names(tmp_path: Path) -> list[str]:
    images = load_images("mine", tmp_path / "target", resolution=8, seed=0)
    return [
        f"{images.class_names[label]}:{pixels[0, 0, 0]}"
        for pixels, label in zip(images.images_NHWC, images.labels_N, strict=True)
    ]


@pytest.mark.parametrize("prefix", ["", "flowers/", "a/b/", "train/", "flowers/train/", "./"])
def test_class_folders_whatever_is_around_them(tmp_path: Path, prefix: str) -> None:
    done = unpack(tmp_path, packed(class_folders(prefix)))
    assert (done.num_files, done.num_ignored) == (6, 0)
    assert done.num_bytes == sum(map(len, class_folders().values()))
    assert names(tmp_path) == ["class0:0", "class0:1", "class0:2", "class1:40", "class1:41", "class1:42"]


def test_only_the_training_images_of_a_layout_with_both(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        packed(class_folders("set/train/") | {"set/val/class0/9.png": png(200), "set/val/class9/1.png": png()}),
    )
    assert len(names(tmp_path)) == 6


def test_hidden_files_and_what_is_no_image_are_left_out(tmp_path: Path) -> None:
    extra = {"__MACOSX/class0/._0.png": b"x", ".DS_Store": b"x", "class0/.hidden.png": b"x", "class0/readme.txt": b"x"}
    done = unpack(tmp_path, packed(class_folders() | extra))
    assert (done.num_files, done.num_ignored) == (6, 4)
    assert set(done.ignored) == set(extra)
    assert len(names(tmp_path)) == 6
    assert not [path for path in tmp_path.joinpath("target").rglob("*") if path.suffix == ".txt" or path.name[0] == "."]


def test_one_npz_or_parquet_file_packed_or_as_it_is(tmp_path: Path) -> None:
    arrays, table = io.BytesIO(), io.BytesIO()
    np.savez(arrays, images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    pq.write_table(pa.table({"image": [png(i) for i in range(4)], "label": [0, 1, 0, 1]}), table)
    for index, content in enumerate(
        (
            arrays.getvalue(),
            packed({"x/data.npz": arrays.getvalue()}),
            packed({"y.parquet": table.getvalue()}),
            packed({"data/train-0.parquet": table.getvalue(), "data/test-0.parquet": table.getvalue()}),
        )
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        unpack(folder, content)
        assert len(names(folder)) == 4


def entry(name: str, mode: int = 0, **values: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"../evil.png": b"x"}, "no path inside"),
        ({"a/../../evil.png": b"x"}, "no path inside"),
        ({"/etc/evil.png": b"x"}, "no path inside"),
        ({"C:/evil.png": b"x"}, "no path inside"),
        ({"a\\..\\evil.png": b"x"}, "no path inside"),
        ({".hidden/../../evil": b"x"}, "no path inside"),
        ({"a/b\n.png": b"x"}, "cannot be used"),
        ({"a/" * 20 + "x.png": b"x"}, "too long a path"),
        ({"a/" + "x" * 252 + ".png": b"x"}, "too long a path"),
        ({entry("a/link.png", stat.S_IFLNK | 0o777): b"/etc/passwd"}, "link or a device"),
        ({entry("a", stat.S_IFLNK | 0o777): b"/", "a/x.png": b"x"}, "link or a device"),
        ({entry("a/fifo.png", stat.S_IFIFO): b""}, "link or a device"),
        ({"a/x.png": b"x", "a/./x.png": b"y"}, "twice"),
        ({"a/x.png": b"x", "a/x.png/y.png": b"y"}, "a file and a folder"),
        ({"a/zeros.png": bytes(2**21)}, "200 times"),
        ({f"a/{i}.png": bytes(2**20) for i in range(11)}, "more than 10,000,000 bytes"),
        ({f"a/{i}.png": b"x" for i in range(51)}, "more than 50 entries"),
        ({"readme.txt": b"x"}, "holds no image"),
        ({}, "holds no image"),
    ],
)  # fmt: skip
def test_hostile_archives(tmp_path: Path, files: dict[Any, bytes], says: str) -> None:
    with pytest.raises(DataSetError, match=says):
        unpack(tmp_path, packed(files))
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink() or "evil" in path.name]
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "target"}


def test_the_same_name_twice(tmp_path: Path) -> None:
    first, second = entry("a/x.png"), entry("a/x.png")
    with pytest.raises(DataSetError, match="twice"):
        unpack(tmp_path, packed({first: b"x", second: b"y"}))


def test_methods_and_passwords_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="use deflate"):
        unpack(tmp_path, packed(class_folders(), zipfile.ZIP_LZMA))
    content = bytearray(packed({"a/x.png": b"x"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "again").mkdir()
    with pytest.raises(DataSetError, match="encrypted"):
        unpack(tmp_path / "again", bytes(content))


def test_sizes_that_are_lies(tmp_path: Path) -> None:
    """The directory says 100 bytes, the data are two million: no more than was said is ever written."""
    content = bytearray(packed({"a/x.png": bytes(2 * 10**6)}))
    where = content.index(b"PK\x01\x02") + 24
    content[where : where + 4] = (100).to_bytes(4, "little")
    with pytest.raises(DataSetError, match="damaged"):
        unpack(tmp_path, bytes(content))
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file()) <= 100


def test_arrays_and_tables_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_archive, "MAX_NPZ_BYTES", 1000)
    monkeypatch.setattr(upload_archive, "MAX_PARQUET_ROWS", 3)
    arrays, table = io.BytesIO(), io.BytesIO()
    np.savez_compressed(arrays, images=np.zeros((40, 8, 8), np.uint8), labels=np.zeros(40))
    pq.write_table(pa.table({"image": [png()] * 4, "label": [0, 1, 0, 1]}), table)
    front_coded = io.BytesIO()
    options = {"use_dictionary": False, "column_encoding": {"label": "DELTA_BYTE_ARRAY"}}
    pq.write_table(pa.table({"image": [png()] * 2, "label": ["a", "b"]}), front_coded, **options)
    for content, says in (
        (arrays.getvalue(), "arrays"),
        (packed({"a.npz": arrays.getvalue()}), "arrays"),
        (packed({"a.parquet": table.getvalue()}), "have 4 rows"),
        (packed({"a.parquet": b"PAR1"}), "no parquet file"),
        (packed({"a.parquet": front_coded.getvalue()}), "write it as PLAIN"),
        (packed({"a.npz": b"PK"}), "no zip archive"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with pytest.raises(DataSetError, match=says):
            unpack(folder, content)


def test_a_full_disk_is_no_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    content = packed(class_folders())
    monkeypatch.setattr(upload_archive, "_unpack", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip archive at all" * 100])
def test_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataSetError, match="no zip archive"):
        unpack(tmp_path, content)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 3))
def test_damage_anywhere_is_said_or_does_no_harm(tmp_path: Path, changes: list[tuple[int, int]], num_cut: int) -> None:
    content = bytearray(packed(class_folders("x/")))
    for position, value in changes:
        content[position % len(content)] = value
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(DataSetError):
            unpack(folder, bytes(content[: len(content) - num_cut]))
    assert all(path.is_relative_to(folder) for path in folder.rglob("*"))
    assert {path.name for path in folder.iterdir()} <= {"archive", "target"}
