"""Which folder's classes are trained on, where a data set has splits, or folders that are only called like one."""

from pathlib import Path

import pytest

from app.domain.folder_layouts import folder_of_classes
from app.domain.images import DataSetError


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize("name", ["train", "Train", "TRAINING", "training"])
def test_the_training_split_however_it_is_written(tmp_path: Path, name: str) -> None:
    root = folders(tmp_path, f"{name}/cat", f"{name}/dog", "Test/cat", "val/cat", "extra/cat")
    assert folder_of_classes(root) == root / name


def test_folders_that_are_no_splits_are_classes(tmp_path: Path) -> None:
    assert folder_of_classes(folders(tmp_path, "cat", "dog")) == tmp_path


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """It holds images and no folders; other vehicles lie beside it."""
    root = folders(tmp_path, "bus", "train", "tram")
    (root / "train" / "0.png").touch()
    assert folder_of_classes(root) == root


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/.cache", "cat")
    assert folder_of_classes(root) == root


@pytest.mark.parametrize("names", [("train", "val"), ("Test",), ("training", "dev", "eval")])
def test_splits_without_classes_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = folders(tmp_path / "flat", *names)
    with pytest.raises(DataSetError, match=r"the folder 'flat' holds .*: names of splits and not of classes") as caught:
        folder_of_classes(root)
    assert all(name in str(caught.value) for name in names)


def test_an_empty_folder_is_left_to_who_reads_it(tmp_path: Path) -> None:
    assert folder_of_classes(tmp_path) == tmp_path
