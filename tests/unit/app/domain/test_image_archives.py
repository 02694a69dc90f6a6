"""Parquet files, npz files and idx files: whatever is wrong with one is said, and nothing is unpacked for it."""

import gzip
import os

import numpy as np
import pyarrow as pa
import pytest

from app.domain.data_sets import DataSetError, inspect_data_set
from tests.unit.app.domain.small_data_sets import LABELS, PIXELS, png, refused, write_idx, write_parquet


class TestParquet:
    def test_a_corrupt_image_is_named_by_row(self, tmp_path):
        cells = [{"bytes": png(pixels), "path": None} for pixels in PIXELS]
        cells[7]["bytes"] = cells[7]["bytes"][:60]
        write_parquet(tmp_path / "a.parquet", cells=cells)
        refused("a", tmp_path, "row 7 of a.parquet is a corrupt")
        cells[7]["bytes"] = None
        write_parquet(tmp_path / "a.parquet", cells=cells)
        refused("a", tmp_path, "row 7 of a.parquet holds no image bytes")

    @pytest.mark.parametrize(
        ("column", "num_bytes", "says"),
        [
            ("label", 5 * 10**6, "take 5,000,0.. bytes; labels are numbers or names"),
            ("label", 10**6, "a label of 1,000,001 bytes"),
            ("image", 80 * 10**6, "an image may have 67,108,864"),
        ],
    )
    def test_a_parquet_cell_in_every_row_is_not_copied(self, tmp_path, write_cell_bomb, column, num_bytes, says):
        write_cell_bomb(tmp_path / "a.parquet", column, num_bytes, 40)
        before = pa.total_allocated_bytes()
        with pytest.raises(DataSetError, match=says):
            inspect_data_set("a", tmp_path)
        assert pa.total_allocated_bytes() - before < 2 * 10**7

    def test_a_truncated_parquet_file(self, tmp_path):
        write_parquet(tmp_path / "a.parquet")
        payload = (tmp_path / "a.parquet").read_bytes()
        for length in (0, 4, 100, len(payload) - 9):
            (tmp_path / "a.parquet").write_bytes(payload[:length])
            refused("a", tmp_path, "a.parquet is a truncated, damaged or no parquet file")

    def test_damaged_pages_of_a_parquet_file(self, tmp_path):
        write_parquet(tmp_path / "a.parquet")
        payload = bytearray((tmp_path / "a.parquet").read_bytes())
        payload[100:600] = bytes(500)
        (tmp_path / "a.parquet").write_bytes(payload)
        refused("a", tmp_path, "a.parquet")

    def test_wrong_parquet_columns(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", columns=("picture", "label"))
        refused("a", tmp_path, "has the columns picture, label; it needs 'image'")
        write_parquet(tmp_path / "b.parquet", cells=list(range(12)))
        refused("b", tmp_path, "'image' of b.parquet must hold encoded images")
        write_parquet(tmp_path / "c.parquet", labels=[[1]] * 12)
        refused("c", tmp_path, "'label' of c.parquet must hold integers or texts")

    @pytest.mark.parametrize(
        ("labels", "match"),
        [
            ([0.0, float("nan")] * 6, "image 1 has nan"),
            ([0.0, 1.5] * 6, "image 1 has 1.5"),
            ([0, -1] * 6, "contain -1; labels start at 0"),
            ([0, 3] * 6, "contain 3, but the file names only 3 classes"),
            ([0, None] * 6, "6 rows without a label"),
        ],
    )
    def test_wrong_labels(self, tmp_path, labels, match):
        write_parquet(tmp_path / "a.parquet", labels, names=["a", "b", "c"])
        refused("a", tmp_path, match)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable_files(self, tmp_path):
        write_parquet(tmp_path / "a.parquet")
        (tmp_path / "a.parquet").chmod(0)
        refused("a", tmp_path, "a.parquet")


class TestNpz:
    def test_wrong_npz_arrays(self, tmp_path):
        def case(match, **arrays):
            np.savez(tmp_path / "a.npz", **arrays)
            refused("a", tmp_path, match)

        case("must be uint8.*not float32", images=PIXELS.astype(np.float32), labels=LABELS)
        case("must be uint8.*12, 8, 8, 4", images=np.zeros((12, 8, 8, 4), np.uint8), labels=LABELS)
        case("no array 'labels'", images=PIXELS)
        case("12 images but 11 labels", images=PIXELS, labels=LABELS[:-1])
        case("one label per image", images=PIXELS, labels=LABELS[:, None])
        case("image 3 has nan", images=PIXELS, labels=np.where(np.arange(12) == 3, np.nan, 1.0))
        case("must be integers, not complex", images=PIXELS, labels=LABELS.astype(complex))
        case("no images", images=PIXELS[:0], labels=LABELS[:0])
        np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS.astype(object), allow_pickle=True)
        refused("a", tmp_path, "holds Python objects, which are never loaded")

    def test_damaged_npz(self, tmp_path):
        np.savez_compressed(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
        payload = bytearray((tmp_path / "a.npz").read_bytes())
        (tmp_path / "a.npz").write_bytes(payload[:-30])
        refused("a", tmp_path, "truncated or no npz")
        payload[len(payload) // 2] ^= 255
        (tmp_path / "a.npz").write_bytes(payload)
        refused("a", tmp_path, "npz")

    def test_a_huge_npz_is_refused_by_its_header(self, tmp_path, monkeypatch):
        monkeypatch.setattr("app.domain.image_archives.MAX_ARRAY_BYTES", 1000)
        np.savez_compressed(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
        refused("a", tmp_path, "unpacks to more")


class TestIdx:
    def test_damaged_idx(self, tmp_path):
        write_idx(tmp_path / "a")
        images = tmp_path / "a" / "train-images-idx3-ubyte.gz"
        payload = images.read_bytes()
        images.write_bytes(payload[:-20])
        refused("a", tmp_path, "damaged")
        images.write_bytes(gzip.compress(gzip.decompress(payload)[:-5]))
        refused("a", tmp_path, "another number of bytes")
        images.write_bytes(gzip.compress(b"\0\0\x0d\3" + bytes(50)))
        refused("a", tmp_path, "no idx file")
        write_idx(tmp_path / "a", labels=LABELS[:-1])
        refused("a", tmp_path, "12 images but 11 labels")
