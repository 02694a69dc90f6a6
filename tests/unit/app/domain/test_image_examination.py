"""Every image of a data set is looked at: what is cut off is found anywhere, and what can be read is not refused."""

import errno
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.domain import image_examination
from app.domain.data_sets import DataSetError, inspect_data_set, open_source
from app.domain.image_examination import examine, examine_image

MANY = 8200
"""More than are decoded in full."""


def encoded(kind: str, size: int = 24, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(root: Path, images: list[bytes]) -> None:
    for label in ("cat", "dog"):
        (root / "many" / label).mkdir(parents=True)
    for index, image in enumerate(images):
        (root / "many" / ("dog" if index >= len(images) // 2 else "cat") / f"{index:05}.png").write_bytes(image)


def write_parquet(root: Path, images: list[bytes]) -> None:
    labels = np.arange(len(images)) % 2
    pq.write_table(pa.table({"image": images, "label": labels}), root / "many.parquet", use_dictionary=False)


class TestManyImages:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    @pytest.mark.parametrize(
        ("write", "origin"), [(write_folder, f"the file dog/{MANY - 2:05}.png"), (write_parquet, f"row {MANY - 2} of")]
    )
    def test_one_that_is_cut_off_is_named(self, tmp_path: Path, kind: str, write: Any, origin: str) -> None:
        image = encoded(kind)
        images = [image] * MANY
        images[MANY - 2] = image[:-60]
        write(tmp_path, images)
        with pytest.raises(DataSetError, match=f"{origin}.* is a corrupt or truncated image .*; replace or remove it"):
            inspect_data_set("many", tmp_path)

    def test_all_that_are_broken_are_counted_and_some_named(self, tmp_path: Path) -> None:
        image = encoded("PNG")
        images = [image] * MANY
        for index in range(1, 80, 10):
            images[index] = b"" if index % 20 == 1 else image[:-6] + b"\0" + image[-5:]
        images[7] = image[:60] + b"\0\0\0\0" + image[64:]
        write_folder(tmp_path, images)
        with pytest.raises(DataSetError) as raised:
            inspect_data_set("many", tmp_path)
        # a wrong checksum of the end is no reason to refuse what can be read
        assert "00001.png" in str(raised.value)
        assert "4 more cannot be read: cat/00007.png, cat/00021.png, cat/00041.png, cat/00061.png" in str(raised.value)
        found = examine(open_source("many", tmp_path))
        assert (found.num_examined, found.num_decoded, found.num_broken) == (MANY, 512, 5)
        assert found.sizes == {(24, 24): MANY - 5}

    def test_good_ones_are_all_examined_and_remembered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_folder(tmp_path, [encoded("JPEG")] * MANY)
        info = inspect_data_set("many", tmp_path)
        assert (info.num_images, info.num_examined, info.num_decoded) == (MANY, MANY, 512)
        monkeypatch.setattr(image_examination, "examine_image", None)
        assert inspect_data_set("many", tmp_path) == info
        # as an upload is put in place
        (tmp_path / "many").rename(tmp_path / "renamed")
        assert inspect_data_set("renamed", tmp_path).num_examined == MANY
        monkeypatch.undo()
        (tmp_path / "renamed" / "dog" / f"{MANY - 1:05}.png").write_bytes(b"changed")
        with pytest.raises(DataSetError, match=f"dog/{MANY - 1:05}.png"):
            inspect_data_set("renamed", tmp_path)

    def test_a_damaged_array_is_found_without_holding_it(self, tmp_path: Path) -> None:
        images = np.random.default_rng(0).integers(0, 256, (MANY, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "many.npz", images=images, labels=np.arange(MANY) % 2)
        found = examine(open_source("many", tmp_path))
        assert (found.num_examined, found.sizes, found.modes) == (MANY, {(8, 8): MANY}, {"L": MANY})
        payload = bytearray((tmp_path / "many.npz").read_bytes())
        at = payload.index(images[-1].tobytes())
        payload[at : at + 64] = bytes(64)
        (tmp_path / "many.npz").write_bytes(payload)
        with pytest.raises(DataSetError, match=r"many.npz is a damaged npz file \(Bad CRC-32"):
            inspect_data_set("many", tmp_path)

    def test_what_the_time_does_not_suffice_for_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_examination, "TIME_LIMIT_S", -1.0)
        write_folder(tmp_path, [encoded("PNG")] * 200)
        assert examine(open_source("many", tmp_path)).num_examined == 64


@pytest.mark.parametrize("size", [24, 300])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "MPO"])
def test_what_is_cut_off_is_found_in_every_format(tmp_path: Path, kind: str, size: int) -> None:
    whole, path = encoded(kind, size), tmp_path / "an image"
    for length in (len(whole), len(whole) - 8, len(whole) // 2, 0):
        path.write_bytes(whole[:length])
        in_full = examine_image((whole[:length], "it"))
        assert examine_image((whole[:length], "it"), in_full=False) == in_full
        assert examine_image((path, "it"), in_full=False) == in_full
        if length != len(whole) - 8:  # some readers do without the last bytes
            assert (in_full.problem is None) == (length == len(whole))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_follows_an_image_is_nobody_s_problem(kind: str) -> None:
    assert examine_image((encoded(kind) + b"\0\0", "it"), in_full=False).problem is None


def test_damage_inside_of_a_small_png_is_found() -> None:
    payload = bytearray(encoded("PNG"))
    payload[len(payload) // 2] ^= 0xFF
    assert "corrupt" in (examine_image((bytes(payload), "it"), in_full=False).problem or "")


def test_a_disk_that_is_away_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write_folder(tmp_path, [encoded("PNG")] * 4)
    monkeypatch.setattr(Image, "open", away)
    with pytest.raises(DataSetError, match=r"'many' cannot be read now .*Input/output error.*try again later"):
        inspect_data_set("many", tmp_path)
    monkeypatch.undo()
    assert inspect_data_set("many", tmp_path).num_examined == 4


def test_callers_at_once_wait_for_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, [encoded("PNG")] * 4)
    calls, may_go_on = [], threading.Event()

    def slow(*arguments: Any) -> Any:
        calls.append(arguments)
        assert may_go_on.wait(10)
        return real(*arguments)

    real = image_examination._examine
    monkeypatch.setattr(image_examination, "_examine", slow)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(inspect_data_set, "many", tmp_path) for _ in range(3)]
        time.sleep(0.2)
        may_go_on.set()
        assert {future.result().num_images for future in futures} == {4}
    assert len(calls) == 1
