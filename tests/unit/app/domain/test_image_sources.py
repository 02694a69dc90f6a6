"""What all sources of images share: labels of any numbering, class folders, and links that lead out of the root."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.image_sources import check_inside, class_folders, dense_labels, digits_source
from app.domain.images import DataSetError


@pytest.mark.parametrize(
    ("values", "names", "labels", "classes"),
    [
        ([5, 7, 5], None, [0, 1, 0], ("5", "7")),
        ([2.0, 0.0], None, [1, 0], ("0", "2")),
        ([2, 0], ("cat", "dog", "owl"), [1, 0], ("cat", "owl")),
        (["dog", "cat", "dog"], None, [1, 0, 1], ("cat", "dog")),
        (np.array([255, 0], np.uint8), None, [1, 0], ("0", "255")),
        (np.array([10, 9], object), None, [0, 1], ("10", "9")),
    ],
)
def test_labels_become_dense_and_keep_their_names(
    values: Any, names: tuple[str, ...] | None, labels: list[int], classes: tuple[str, ...]
) -> None:
    """Names without an image are no classes."""
    found, class_names = dense_labels(np.asarray(values), names, "the labels of x")
    assert (found.tolist(), found.dtype, class_names) == (labels, np.int64, classes)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([[0], [1]], "the labels of x must be one label per image, not an array of shape"),
        ([], "there are no images"),
        ([0, -1], "the labels of x contain -1; labels start at 0"),
        ([0.0, 0.5], "image 1 has 0.5"),
        ([0.0, float("inf")], "image 1 has inf"),
        ([0.0, 2.0**60], "image 1 has 1"),
        ([True, False], "must be integers, not bool"),
        ([1j], "must be integers, not complex"),
        ([0, 3], "contain 3, but the file names only 3 classes, from 0"),
    ],
)
def test_labels_that_are_none(values: Any, says: str) -> None:
    with pytest.raises(DataSetError, match=says):
        dense_labels(np.asarray(values), ("a", "b", "c"), "the labels of x")


def test_hidden_folders_and_files_are_no_classes(tmp_path: Path) -> None:
    for name in ("dog", "cat", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").touch()
    assert [path.name for path in class_folders(tmp_path)] == ["cat", "dog"]


class TestLinks:
    def test_inside_of_the_root_they_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "alias").symlink_to("real")
        assert check_inside(tmp_path / "alias", tmp_path) == (tmp_path / "real").resolve()

    def test_the_root_itself_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "disk" / "images").mkdir(parents=True)
        (tmp_path / "root").symlink_to("disk")
        assert check_inside(tmp_path / "root" / "images", tmp_path / "root").name == "images"

    @pytest.mark.parametrize("target", ["/etc", "../outside", "../root-of-somebody-else"])
    def test_out_of_it_they_are_not(self, tmp_path: Path, target: str) -> None:
        for name in ("root", "outside", "root-of-somebody-else"):
            (tmp_path / name).mkdir()
        (tmp_path / "root" / "link").symlink_to(target)
        with pytest.raises(DataSetError, match="'link' is a link that leaves the data root"):
            check_inside(tmp_path / "root" / "link", tmp_path / "root")

    @pytest.mark.parametrize("target", ["link", "nothing"])
    def test_nor_in_circles_or_nowhere(self, tmp_path: Path, target: str) -> None:
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(DataSetError, match="'link' is missing, or a link that leads nowhere; remove it"):
            check_inside(tmp_path / "link", tmp_path)


def test_digits_are_read_once_and_sampled_by_index() -> None:
    source = digits_source()
    index = np.array([3, 1700, 3])
    images = source.decode(index, 8)
    assert images.shape == (3, 8, 8, 3)
    assert np.array_equal(images[0], images[2])
    assert not np.array_equal(images[0], images[1])
    assert (source.labels_N[3], source.class_names[3]) == (3, "3")
