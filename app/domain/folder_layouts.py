"""Which sub-folder of a data set's folder holds the class folders to train on."""

from pathlib import Path

from app.domain.image_sources import class_folders
from app.domain.images import DataSetError

_TRAINING_SPLITS = frozenset({"train", "training"})
_OTHER_SPLITS = frozenset({"dev", "eval", "test", "testing", "val", "valid", "validation"})


def folder_of_classes(folder: Path) -> Path:
    """Return a folder's training split, however it is capitalised, or the folder itself where it has no splits.

    A ``train`` with images and no folders in it is a class of that name.

    Raises:
        DataSetError: If there are splits, and none to train on.
    """
    inside = class_folders(folder)
    for path in inside:
        if path.name.lower() in _TRAINING_SPLITS and class_folders(path):
            return path
    if inside and all(path.name.lower() in _TRAINING_SPLITS | _OTHER_SPLITS for path in inside):
        names = ", ".join(path.name for path in inside)
        raise DataSetError(
            f"the folder {folder.name!r} holds {names}: names of splits and not of classes; put a folder of images "
            "per class into it, or into a folder 'train' in it"
        )
    return folder
