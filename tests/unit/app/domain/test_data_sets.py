"""Data sets by name: every layout is read alike, and everything that is wrong with one is said."""

import gzip
import io
import json
import os
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.domain import data_sets
from app.domain.data_sets import (
    DataSetError,
    available,
    inspect_data_set,
    is_hub_data_set,
    load_images,
    stratified_split,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2] * 4)


@pytest.fixture(autouse=True)
def no_system_data_sets(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(data_sets, "FASHION_MNIST_DIRECTORY", tmp_path_factory.mktemp("empty"))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, labels=LABELS, cells=None, names=None, columns=("image", "label"), row_group_size=5):
    cells = cells or [{"bytes": png(PIXELS[i % 12]), "path": None} for i in range(len(labels))]
    table = pa.table({columns[0]: cells, columns[1]: labels})
    if names:
        features = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)


def write_folders(folder):
    for i, label in enumerate(LABELS):
        path = folder / f"class{label}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(PIXELS[i]))


def write_idx(folder, images=PIXELS[:, :, :, 0], labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    labelled = struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.astype(np.uint8).tobytes()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labelled))


def sorted_by_label():
    return PIXELS[np.argsort(LABELS, kind="stable")]


class TestLayouts:
    def test_parquet_file(self, tmp_path):
        write_parquet(tmp_path / "shapes.parquet", names=["cat", "dog", "owl"])
        images = load_images("shapes", tmp_path, resolution=8, seed=0)
        assert np.array_equal(images.images_NHWC, PIXELS)
        assert np.array_equal(images.labels_N, LABELS)
        assert images.class_names == ("cat", "dog", "owl")

    @pytest.mark.parametrize("folder", ["shapes", "shapes/data"])
    def test_parquet_shards_are_one_data_set(self, tmp_path, folder):
        for shard in range(2):
            cells = [{"bytes": png(pixels)} for pixels in PIXELS[6 * shard : 6 * shard + 6]]
            write_parquet(tmp_path / folder / f"train-{shard}.parquet", LABELS[6 * shard : 6 * shard + 6], cells)
        write_parquet(tmp_path / folder / "test-0.parquet")
        images = load_images("shapes", tmp_path, resolution=8, seed=0)
        assert np.array_equal(images.images_NHWC, PIXELS)
        assert np.array_equal(images.labels_N, LABELS)

    def test_parquet_with_plain_bytes_and_text_labels(self, tmp_path):
        write_parquet(
            tmp_path / "a.parquet", ["x", "y"] * 6, [png(pixels) for pixels in PIXELS], columns=("img", "label")
        )
        images = load_images("a", tmp_path, resolution=8, seed=0)
        assert images.class_names == ("x", "y")
        assert np.array_equal(images.images_NHWC, PIXELS)

    @pytest.mark.parametrize("folder", ["shapes", "shapes/train"])
    def test_class_folders(self, tmp_path, folder):
        write_folders(tmp_path / folder)
        (tmp_path / folder / ".cache").mkdir()
        (tmp_path / folder / "class0" / "notes.txt").write_text("not an image")
        images = load_images("shapes", tmp_path, resolution=8, seed=0)
        assert np.array_equal(images.images_NHWC, sorted_by_label())
        assert images.class_names == ("class0", "class1", "class2")

    @pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., :1], PIXELS[..., 0]])
    def test_npz(self, tmp_path, pixels):
        np.savez_compressed(tmp_path / "raw.npz", images=pixels, labels=LABELS + 5)
        images = load_images("raw", tmp_path, resolution=8, seed=0)
        assert images.class_names == ("5", "6", "7")
        assert np.array_equal(images.images_NHWC[..., 0], PIXELS[..., 0])

    def test_idx_and_the_fashion_names(self, tmp_path, monkeypatch):
        write_idx(tmp_path / "system")
        monkeypatch.setattr(data_sets, "FASHION_MNIST_DIRECTORY", tmp_path / "system")
        assert available(None) == ("digits", "fashion-mnist")
        images = load_images("fashion-mnist", None, resolution=8, seed=0)
        assert images.class_names == ("T-shirt/top", "Trouser", "Pullover")
        assert np.array_equal(images.images_NHWC[..., 1], PIXELS[..., 0])
        write_idx(tmp_path / "other")
        assert load_images("other", tmp_path, resolution=8, seed=0).class_names == ("0", "1", "2")

    def test_digits_need_nothing(self):
        info = inspect_data_set("digits", None)
        assert (info.num_images, info.num_classes, info.num_examined) == (1797, 10, 1797)
        images = load_images("digits", None, resolution=8, seed=0)
        assert images.images_NHWC.max() == 255
        assert images.images_NHWC.min() == 0

    def test_available_lists_what_can_be_asked_for(self, tmp_path):
        write_parquet(tmp_path / "a" / "train.parquet")
        write_folders(tmp_path / "b")
        np.savez(tmp_path / "c.npz", images=PIXELS, labels=LABELS)
        (tmp_path / "tables").mkdir()
        (tmp_path / "tables" / "x.csv").write_text("1,2")
        assert available(tmp_path) == ("a", "b", "c", "digits")
        assert all(inspect_data_set(name, tmp_path).num_images == 12 for name in "abc")


class TestSplits:
    @pytest.mark.parametrize("name", ["train", "Train", "TRAINING", "training"])
    def test_the_training_split_however_it_is_written(self, tmp_path, name):
        write_folders(tmp_path / "shapes" / name)
        for other in ("Test", "val"):
            (tmp_path / "shapes" / other / "class9").mkdir(parents=True)
        assert load_images("shapes", tmp_path, resolution=8, seed=0).class_names == ("class0", "class1", "class2")
        assert "shapes" in available(tmp_path)

    def test_a_class_may_be_called_train(self, tmp_path):
        write_folders(tmp_path / "vehicles")
        (tmp_path / "vehicles" / "class1").rename(tmp_path / "vehicles" / "train")
        images = load_images("vehicles", tmp_path, resolution=8, seed=0)
        assert images.class_names == ("class0", "class2", "train")
        assert len(images.labels_N) == len(LABELS)

    def test_splits_without_classes_are_refused(self, tmp_path):
        write_folders(tmp_path / "flat")
        (tmp_path / "flat" / "class0").rename(tmp_path / "flat" / "Train")
        (tmp_path / "flat" / "class1").rename(tmp_path / "flat" / "validation")
        (tmp_path / "flat" / "class2").rename(tmp_path / "flat" / "test")
        with pytest.raises(DataSetError, match="holds Train, test, validation: names of splits and not of classes"):
            load_images("flat", tmp_path, resolution=8, seed=0)
        assert "flat" not in available(tmp_path)


class TestInspection:
    def test_counts_are_complete(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", np.array([0] * 7 + [4] * 5))
        info = inspect_data_set("a", tmp_path)
        assert (info.class_names, info.class_counts, info.num_decoded) == (("0", "4"), (7, 5), 12)

    def test_a_file_that_changes_is_examined_again(self, tmp_path):
        write_parquet(tmp_path / "a.parquet")
        assert inspect_data_set("a", tmp_path) == inspect_data_set("a", tmp_path)
        write_parquet(tmp_path / "a.parquet", np.array([0, 1] * 7))
        assert inspect_data_set("a", tmp_path).num_images == 14

    def test_two_roots_do_not_mix(self, tmp_path):
        write_folders(tmp_path / "one" / "a")
        write_folders(tmp_path / "two" / "a")
        (tmp_path / "two" / "a" / "class0" / "00.png").unlink()
        assert inspect_data_set("a", tmp_path / "one").num_images == 12
        assert inspect_data_set("a", tmp_path / "two").num_images == 11


def refused(name, root, match):
    with pytest.raises(DataSetError, match=match):
        inspect_data_set(name, root)
    with pytest.raises(DataSetError, match=match):
        load_images(name, root, resolution=8, seed=0)


class TestNames:
    def test_unknown_names_list_what_there_is(self, tmp_path):
        write_folders(tmp_path / "mine")
        refused("your", tmp_path, "no data set 'your'; there are digits, mine")
        refused("fashion-mnist", None, "dataset-fashion-mnist")

    @pytest.mark.parametrize("name", ["../mine", "/etc", "a/b", "", ".", "..", "-x", "a\0b", "a\n", "é", "x" * 200])
    def test_names_are_no_paths(self, tmp_path, name):
        refused(name, tmp_path, "no data set name")

    def test_links_out_of_the_root_are_refused(self, tmp_path):
        root = tmp_path / "root"
        write_folders(tmp_path / "outside")
        write_parquet(tmp_path / "outside.parquet")
        write_folders(root / "files")
        root.joinpath("linked").symlink_to(tmp_path / "outside")
        root.joinpath("one.parquet").symlink_to(tmp_path / "outside.parquet")
        (root / "classes").mkdir()
        for name in ("class0", "class1"):
            root.joinpath("classes", name).symlink_to(tmp_path / "outside" / name)
        (root / "files" / "class0" / "zz.png").symlink_to(tmp_path / "outside" / "class0" / "00.png")
        for name in ("linked", "one", "classes", "files"):
            refused(name, root, "leaves the data root")

    def test_links_inside_the_root_are_fine(self, tmp_path):
        write_folders(tmp_path / "real")
        (tmp_path / "alias").symlink_to(tmp_path / "real")
        assert inspect_data_set("alias", tmp_path).num_images == 12

    def test_hub_names(self):
        assert is_hub_data_set("hub:zalando-datasets/fashion_mnist")
        assert not is_hub_data_set("digits")
        for name in ("hub:", "hub:a", "hub:../b", "hub:a/b/c", "hub:a/.."):
            with pytest.raises(DataSetError, match="hub:OWNER/NAME"):
                is_hub_data_set(name)
        refused("hub:a/b", None, "only workers")


class TestDamage:
    def test_too_few_classes_or_images(self, tmp_path):
        write_parquet(tmp_path / "one.parquet", np.zeros(12, int))
        refused("one", tmp_path, "one class only")
        write_parquet(tmp_path / "rare.parquet", np.array([0] * 11 + [1]))
        refused("rare", tmp_path, "class '1' has 1 image")
        write_parquet(tmp_path / "none.parquet", np.zeros(0, int), [])
        refused("none", tmp_path, "there are no images|must hold encoded images")

    def test_a_corrupt_image_is_named_by_row(self, tmp_path):
        cells = [{"bytes": png(pixels), "path": None} for pixels in PIXELS]
        cells[7]["bytes"] = cells[7]["bytes"][:60]
        write_parquet(tmp_path / "a.parquet", cells=cells)
        refused("a", tmp_path, "row 7 of a.parquet is a corrupt")
        cells[7]["bytes"] = None
        write_parquet(tmp_path / "a.parquet", cells=cells)
        refused("a", tmp_path, "row 7 of a.parquet holds no image bytes")

    def test_a_corrupt_image_is_named_by_file(self, tmp_path):
        write_folders(tmp_path / "a")
        (tmp_path / "a" / "class1" / "04.png").write_bytes(b"not an image")
        refused("a", tmp_path, "class1/04.png is a corrupt")

    def test_an_empty_class_folder(self, tmp_path):
        write_folders(tmp_path / "a")
        (tmp_path / "a" / "class9").mkdir()
        refused("a", tmp_path, "class folder 'class9'.*no images")
        (tmp_path / "b").mkdir()
        refused("b", tmp_path, "holds no data set")

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

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable_files(self, tmp_path):
        write_parquet(tmp_path / "a.parquet")
        (tmp_path / "a.parquet").chmod(0)
        refused("a", tmp_path, "a.parquet")


class TestSelection:
    def test_a_class_subset_is_random_seeded_and_renumbered(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=np.zeros((100, 4, 4), np.uint8), labels=np.arange(100) % 20)
        first = load_images("a", tmp_path, resolution=4, num_classes=5, seed=0)
        again = load_images("a", tmp_path, resolution=4, num_classes=5, seed=0)
        other = load_images("a", tmp_path, resolution=4, num_classes=5, seed=1)
        assert first.class_names == again.class_names != other.class_names
        assert np.bincount(first.labels_N).tolist() == [5] * 5

    def test_images_stay_with_their_labels(self, tmp_path):
        pixels = np.repeat(np.arange(60, dtype=np.uint8), 16).reshape(60, 4, 4)
        np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(60) % 6)
        images = load_images("a", tmp_path, resolution=4, num_classes=3, num_images=11, seed=3)
        assert len(images.labels_N) == 11
        original = images.images_NHWC[:, 0, 0, 0] % 6
        names = np.array(images.class_names).astype(int)
        assert np.array_equal(original, names[images.labels_N])

    def test_impossible_requests(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
        for num_classes in (0, 1, 4, -1):
            with pytest.raises(DataSetError, match="num_classes must be 2 to 3"):
                load_images("a", tmp_path, resolution=8, num_classes=num_classes, seed=0)
        for num_images in (5, 0, -3):
            with pytest.raises(DataSetError, match="num_images of at least 6"):
                load_images("a", tmp_path, resolution=8, num_images=num_images, seed=0)

    @settings(max_examples=200, deadline=None)
    @given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=8), data=st.data())
    def test_a_cap_keeps_the_proportions(self, counts, data):
        from app.domain.stratified_sampling import stratified_sample

        labels = np.repeat(np.arange(len(counts)), counts)
        num_images = data.draw(st.integers(2 * len(counts), len(labels)))
        chosen = stratified_sample(labels, num_images, seed=0)
        assert len(np.unique(chosen)) == num_images
        kept = np.bincount(labels[chosen], minlength=len(counts))
        assert (kept <= counts).all()
        # Two of every class, and of the rest each class's share, rounded down or up.
        free = np.array(counts) - 2
        shares = free * (num_images - 2 * len(counts)) / max(1, free.sum())
        assert (np.abs(kept - 2 - shares) < 1 + 1e-9).all()


class TestSplit:
    @settings(max_examples=60, deadline=None)
    @given(
        counts=st.lists(st.integers(2, 50), min_size=2, max_size=9),
        fraction=st.floats(0.01, 0.99),
        seed=st.integers(0, 2**31),
    )
    def test_every_class_is_in_both_and_nothing_is_lost(self, counts, fraction, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
        train, validation = stratified_split(labels, fraction, seed)
        assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels)))
        held_out = np.bincount(labels[validation], minlength=len(counts))
        assert (held_out >= 1).all()
        assert (held_out < counts).all()
        assert (np.abs(held_out - fraction * np.array(counts)) <= 1).all()

    def test_the_seed_decides(self):
        labels = np.arange(100) % 5
        assert np.array_equal(stratified_split(labels, 0.1, 1)[1], stratified_split(labels, 0.1, 1)[1])
        assert not np.array_equal(stratified_split(labels, 0.1, 1)[1], stratified_split(labels, 0.1, 2)[1])

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan"), 2.0])
    def test_impossible_fractions(self, fraction):
        with pytest.raises(DataSetError, match="between 0 and 1"):
            stratified_split(np.array([0, 0, 1, 1]), fraction, 0)

    def test_a_single_image_cannot_be_split(self):
        with pytest.raises(DataSetError, match="class 1 has 1 image"):
            stratified_split(np.array([0, 0, 1]), 0.1, 0)


def test_links_that_lead_nowhere_are_one_data_set_less_and_no_crash(tmp_path):
    """They stand in the data root of whoever moved a disk: what is asked for by another name must not fail for them."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    folder = tmp_path / "images" / "class0"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to("a.png")
    (tmp_path / "images" / "class1").mkdir()
    assert available(tmp_path) == ("digits", "images")
    for name in ("loop", "gone", "images", "other"):
        with pytest.raises(DataSetError):
            inspect_data_set(name, tmp_path)
