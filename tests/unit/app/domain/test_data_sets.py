"""Data sets by name: every layout is read alike, and everything that is wrong with one is said."""

import numpy as np
import pytest

from app.domain import data_sets
from app.domain.data_sets import (
    DataSetError,
    available,
    choose_images,
    choose_left_out,
    inspect_data_set,
    is_hub_data_set,
    load_images,
    open_source,
)
from tests.unit.app.domain.small_data_sets import LABELS, PIXELS, png, refused, write_folders, write_idx, write_parquet


@pytest.fixture(autouse=True)
def no_system_data_sets(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(data_sets, "FASHION_MNIST_DIRECTORY", tmp_path_factory.mktemp("empty"))


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

    def test_what_is_left_out_is_never_what_is_taken(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=np.zeros((100, 4, 4), np.uint8), labels=np.arange(100) % 5)
        source = open_source("a", tmp_path)
        arguments = {"num_classes": 3, "num_images": 40, "seed": 2}
        taken, left_out = choose_images(source, **arguments), choose_left_out(source, **arguments, num_left_out=15)
        everything = choose_left_out(source, **arguments, num_left_out=1000)
        assert len(left_out.index_N) == 15
        assert len(everything.index_N) == 20
        assert not set(taken.index_N) & set(everything.index_N)
        assert set(left_out.index_N) <= set(everything.index_N)
        assert left_out.class_names == taken.class_names
        names = np.array(taken.class_names).astype(int)
        assert np.array_equal(names[left_out.labels_N], left_out.index_N % 5)
        assert np.array_equal(left_out.index_N, np.sort(left_out.index_N))
        again = choose_left_out(source, **arguments, num_left_out=15)
        other = choose_left_out(source, **{**arguments, "seed": 3}, num_left_out=15)
        assert np.array_equal(left_out.index_N, again.index_N)
        assert not np.array_equal(left_out.index_N, other.index_N)

    def test_impossible_requests(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
        for num_classes in (0, 1, 4, -1):
            with pytest.raises(DataSetError, match="num_classes must be 2 to 3"):
                load_images("a", tmp_path, resolution=8, num_classes=num_classes, seed=0)
        for num_images in (5, 0, -3):
            with pytest.raises(DataSetError, match="num_images of at least 6"):
                load_images("a", tmp_path, resolution=8, num_images=num_images, seed=0)


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
