"""Where labelled images come from: parquet files, class folders, npz and idx archives, scikit-learn's digits.

A source knows all labels at once and decodes the images it is asked for. What the API checks and what a worker reads go
through the same source.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.images import IMAGE_SUFFIXES, DataSetError, Encoded, UInt8Array, decode_images, resize_arrays

Int64Array = npt.NDArray[np.int64]
OnProgress = Callable[[float], None]
Fingerprint = tuple[object, ...]


class ImageSource(Protocol):
    """A labelled set of images.

    Attributes:
        labels_N: int64, dense in [0, len(class_names)); every class occurs.
        class_names: Names of the classes, by label.
        num_bytes: Size of what is stored.
        fingerprint: Changes when the stored files change.
    """

    labels_N: Int64Array
    class_names: tuple[str, ...]
    num_bytes: int
    fingerprint: Fingerprint

    def decode(self, index_N: Int64Array, resolution: int, on_progress: OnProgress | None = None) -> UInt8Array:
        """Return the images of an ascending index as uint8 [N, R, R, 3].

        Raises:
            DataSetError: If one of them cannot be read.
        """
        ...


def dense_labels(
    values: npt.NDArray[np.generic], names: Sequence[str] | None, origin: str
) -> tuple[Int64Array, tuple[str, ...]]:
    """Return labels re-numbered 0, 1, ... in ascending order of the values that occur, and the classes' names.

    Args:
        values: One label per image: integers, floats without fraction, or texts (then these are the names).
        names: Names by original label, where the file has them.
        origin: What to call the labels in an error.

    Raises:
        DataSetError: If there are none, or one is missing, fractional, negative or beyond the names.
    """
    if values.ndim != 1:
        raise DataSetError(f"{origin} must be one label per image, not an array of shape {values.shape}")
    if not values.size:
        raise DataSetError(f"{origin}: there are no images")
    if values.dtype.kind in "UO":
        # not as an array of texts, which gives every one of them the room of the longest
        texts = [str(value) for value in values]
        names_of_texts = sorted(set(texts))
        label_of = {name: label for label, name in enumerate(names_of_texts)}
        return np.array([label_of[text] for text in texts], dtype=np.int64), tuple(names_of_texts)
    present, labels_N = np.unique(_integers(values, origin), return_inverse=True)
    if present[0] < 0:
        raise DataSetError(f"{origin} contain {present[0]}; labels start at 0 (is this an unlabelled test set?)")
    if names is None:
        return labels_N.astype(np.int64), tuple(str(label) for label in present)
    if present[-1] >= len(names):
        raise DataSetError(f"{origin} contain {present[-1]}, but the file names only {len(names)} classes, from 0")
    return labels_N.astype(np.int64), tuple(names[label] for label in present)


def _integers(values: npt.NDArray[np.generic], origin: str) -> Int64Array:
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise DataSetError(f"{origin} must be integers, not {values.dtype}")
    numbers = values.astype(np.float64)
    wrong = ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)
    if wrong.any():
        position = int(np.argmax(wrong))
        raise DataSetError(f"{origin} must be integers; image {position} has {numbers[position]}")
    return numbers.astype(np.int64)


class FileFingerprint(NamedTuple):
    """Which file it is and since when; the same after a folder above it was renamed."""

    name: str
    device: int
    inode: int
    changed_ns: int
    num_bytes: int


def file_fingerprint(path: Path) -> FileFingerprint:
    """Return what changes when another file stands there, or the same one with another content."""
    status = path.stat()
    return FileFingerprint(path.name, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


class ArraySource:
    """Raw images in memory or behind a reader: uint8 [N, H, W] or [N, H, W, 1 or 3]."""

    def __init__(
        self,
        read: Callable[[], UInt8Array],
        labels: npt.NDArray[np.generic],
        *,
        check: Callable[[], None],
        shape: tuple[int, ...],
        names: Sequence[str] | None,
        origin: str,
        num_bytes: int,
        fingerprint: Fingerprint,
    ) -> None:
        """Describe raw images.

        Args:
            read: Returns the images; called once, at the first decode.
            check: Reads through all that is stored without keeping it; raises a ``DataSetError`` if it is damaged.
            labels: One label per image, of any numbering.
            shape: Of what ``read`` will return.
            names: Names by original label, or None.
            origin: What to call the set in an error.
            num_bytes: Size as stored.
            fingerprint: See :class:`ImageSource`.

        Raises:
            DataSetError: If labels and images do not match, or the labels are not usable.
        """
        self.labels_N, self.class_names = dense_labels(labels, names, f"the labels of {origin}")
        if len(self.labels_N) != shape[0]:
            raise DataSetError(f"{origin} has {shape[0]} images but {len(self.labels_N)} labels; there must be as many")
        self.num_bytes = num_bytes
        self.fingerprint: Fingerprint = fingerprint
        self.shape = shape
        self.check = check
        self._read = read
        self._images: UInt8Array | None = None

    def decode(self, index_N: Int64Array, resolution: int, on_progress: OnProgress | None = None) -> UInt8Array:
        """See :class:`ImageSource`."""
        return resize_arrays(self.pixels()[index_N], resolution, on_progress)

    def pixels(self) -> UInt8Array:
        """Return all images as they are stored.

        Raises:
            DataSetError: If they cannot be read.
        """
        if self._images is None:
            self._images = self._read()
        return self._images


def digits_source() -> ArraySource:
    """Return scikit-learn's 1,797 handwritten digits of 8x8 pixels, installed with it."""
    # Imported here: half a second that a process without this data set need not spend.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images_NHW = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    return ArraySource(
        lambda: images_NHW,
        digits.target,
        check=lambda: None,
        shape=images_NHW.shape,
        names=tuple("0123456789"),
        origin="digits",
        num_bytes=images_NHW.nbytes,
        fingerprint=("digits",),
    )


class FolderSource:
    """One folder per class, named after it, with image files in it at any depth."""

    def __init__(self, folder: Path, root: Path) -> None:
        """List the images of a folder of class folders.

        Args:
            folder: Holds the class folders.
            root: The data root, which links may not leave.

        Raises:
            DataSetError: If a class folder holds no images, or a link leaves the root.
        """
        classes = class_folders(folder)
        self.class_names = tuple(path.name for path in classes)
        self._root = root
        self._files: list[Path] = []
        labels: list[int] = []
        prints: list[Fingerprint] = []
        self.num_bytes = 0
        for label, class_folder in enumerate(classes):
            found = self._image_files(class_folder)
            if not found:
                raise DataSetError(f"the class folder {class_folder.name!r} of {folder.name!r} holds no images")
            self._files += found
            labels += [label] * len(found)
            for path in found:
                file_print = file_fingerprint(path)
                prints.append((str(path)[len(str(folder)) :], file_print))
                self.num_bytes += file_print.num_bytes
        self.labels_N: Int64Array = np.array(labels, dtype=np.int64)
        self.fingerprint: Fingerprint = ("folder", hash(tuple(prints)), len(prints))

    def _image_files(self, class_folder: Path) -> list[Path]:
        check_inside(class_folder, self._root)
        found = []
        for directory, folders, files in os.walk(class_folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(directory, name)
                if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    if path.is_symlink():
                        check_inside(path, self._root)
                    found.append(path)
        return found

    def decode(self, index_N: Int64Array, resolution: int, on_progress: OnProgress | None = None) -> UInt8Array:
        """See :class:`ImageSource`."""
        return decode_images(self.encoded(index_N), len(index_N), resolution, on_progress)

    def encoded(self, index_N: Int64Array) -> Iterator[Encoded]:
        """Return the images of an index as they are stored."""
        for index in index_N:
            path = self._files[index]
            yield path, f"the file {path.parent.name}/{path.name}"


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders that stand for classes, sorted by name; hidden ones do not count."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def check_inside(path: Path, root: Path) -> Path:
    """Return a path with its links resolved.

    Raises:
        DataSetError: If it lies outside of the root then, or leads nowhere.
    """
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # links that go in circles
        raise DataSetError(f"{path.name!r} is missing, or a link that leads nowhere; remove it") from error
    if not resolved.is_relative_to(root.resolve()):
        raise DataSetError(f"{path.name!r} is a link that leaves the data root; put the files themselves there")
    return resolved
