"""Data sets by name: what there is, whether it can carry a search, and its images (section 4.1 of the paper).

``digits`` is always there, ``fashion-mnist`` where Debian's package is installed, everything else lies under the data
root. Names that start with ``hub:`` are read from the Hugging Face hub, by workers only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.domain.folder_layouts import folder_of_classes
from app.domain.image_archives import IDX_FILES, ParquetSource, idx_source, npz_source
from app.domain.image_examination import Examination, LocalSource, examine
from app.domain.image_sources import (
    FolderSource,
    ImageSource,
    Int64Array,
    check_inside,
    class_folders,
    digits_source,
)
from app.domain.images import IMAGE_SUFFIXES, DataSetError, UInt8Array
from app.domain.seeds import generator
from app.domain.stratified_sampling import chosen_classes, class_counts, stratified_sample, stratified_split

__all__ = [
    "ChosenImages",
    "DataSetError",
    "DataSetInfo",
    "ImageData",
    "LocalSource",
    "available",
    "choose_images",
    "choose_left_out",
    "decode_chosen",
    "inspect_data_set",
    "is_hub_data_set",
    "load_images",
    "load_images_of",
    "open_source",
    "root_of_upload",
    "stratified_split",
]

FASHION_MNIST_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's ``dataset-fashion-mnist`` puts its files."""

_FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HUB_NAME = re.compile(r"hub:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NUM_NAMED = 5
"""Broken images in an error, beside the first."""


@dataclass(frozen=True)
class DataSetInfo:
    """What a data set holds.

    Attributes:
        name: The name it was asked for by.
        num_images: All its training images.
        num_classes: Number of classes.
        class_names: Names of the classes.
        class_counts: Images of every class.
        num_examined: How many of the images were looked at for this: all of them, where seconds suffice.
        num_decoded: How many of those were decoded in full (all of them where that is quick).
    """

    name: str
    num_images: int
    num_classes: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    num_examined: int
    num_decoded: int


@dataclass(frozen=True)
class ImageData:
    """Images of one size with their labels.

    Attributes:
        images_NHWC: uint8 [N, R, R, 3].
        labels_N: int64 in [0, len(class_names)).
        class_names: Names of the classes, by label.
    """

    images_NHWC: UInt8Array
    labels_N: Int64Array
    class_names: tuple[str, ...]


def is_hub_data_set(name: str) -> bool:
    """Whether a name asks for a data set of the Hugging Face hub, which only workers read.

    Raises:
        DataSetError: If it starts like one but is none.
    """
    if not name.startswith("hub:"):
        return False
    if not _HUB_NAME.fullmatch(name):
        raise DataSetError(f"{name[:120]!r} names no hub data set; write hub:OWNER/NAME")
    return True


def is_data_set_name(name: str) -> bool:
    """Whether a data set that is no hub data set may bear the name."""
    return _NAME.fullmatch(name) is not None


def root_of_upload(upload_root: Path, upload_id: str) -> Path:
    """Return the data root that holds nothing but one upload.

    Raises:
        DataSetError: If it is not there.
    """
    root = upload_root / upload_id
    if not root.is_dir():
        raise DataSetError(
            "the uploaded images are not there: they were deleted (upload them again and submit a new search), or this "
            "process does not see the uploads of the API (NASATLAS_UPLOAD_ROOT must name the same directory)"
        )
    return root


def available(data_root: Path | None) -> tuple[str, ...]:
    """Return the names of the data sets at hand, sorted."""
    names = {"digits"}
    if _has_idx(FASHION_MNIST_DIRECTORY):
        names.add("fashion-mnist")
    if data_root is not None and data_root.is_dir():
        for path in data_root.iterdir():
            name = path.stem if path.suffix in (".npz", ".parquet") and path.is_file() else path.name
            if _NAME.fullmatch(name) and _looks_like_data_set(path):
                names.add(name)
    return tuple(sorted(names))


def inspect_data_set(name: str, data_root: Path | None) -> DataSetInfo:
    """Check that a data set can carry a search, and say what it holds.

    All labels are read, and every image is looked at; see :func:`~app.domain.image_examination.examine`.

    Raises:
        DataSetError: If it is unknown, damaged, has fewer than two classes, a class with fewer than two images or an
            image that cannot be read, or is a hub data set (see :func:`is_hub_data_set`), which only workers can read.
    """
    source = open_source(name, data_root)
    counts = class_counts(source.labels_N, source.class_names)
    found = examine(source)
    if found.broken:
        raise DataSetError(_broken(name, found))
    return DataSetInfo(
        name,
        len(source.labels_N),
        len(counts),
        source.class_names,
        tuple(map(int, counts)),
        found.num_examined,
        found.num_decoded,
    )


def _broken(name: str, found: Examination) -> str:
    """What is wrong with the first broken image, and which ones are broken as well."""
    for facts in found.broken:
        if facts.is_away:
            return f"the data set {name!r} cannot be read now ({facts.problem}); try again later"
    message = found.broken[0].problem or ""
    num_more = found.num_broken - 1
    if num_more:
        others = [facts.origin.removeprefix("the file ") for facts in found.broken[1 : 1 + _NUM_NAMED]]
        message += f"; {num_more:,} more cannot be read: {', '.join(others)}{', ...' if num_more > len(others) else ''}"
    return message


def load_images(
    name: str,
    data_root: Path | None,
    *,
    resolution: int,
    num_classes: int | None = None,
    num_images: int | None = None,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> ImageData:
    """Load a data set, or a random part of it, at one resolution.

    Args:
        name: A name of :func:`available`.
        data_root: The folder of the operator's data sets.
        resolution: R, in pixels.
        num_classes: Take this many random classes (the paper: 100 of 1,000); None takes all.
        num_images: Take at most this many images, each class in proportion; None takes all.
        seed: The search's seed; decides which classes and images.
        on_progress: Called with the fraction decoded; may raise to stop.

    Raises:
        DataSetError: If the data set is unknown or damaged, or cannot give that many classes or images.
    """
    source = open_source(name, data_root)
    return load_images_of(
        source,
        resolution=resolution,
        num_classes=num_classes,
        num_images=num_images,
        seed=seed,
        on_progress=on_progress,
    )


def load_images_of(
    source: ImageSource,
    *,
    resolution: int,
    num_classes: int | None,
    num_images: int | None,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> ImageData:
    """Load images of a source; see :func:`load_images`."""
    chosen = choose_images(source, num_classes=num_classes, num_images=num_images, seed=seed)
    return decode_chosen(source, chosen, resolution, on_progress)


@dataclass(frozen=True)
class ChosenImages:
    """Which images of a source a search takes.

    Attributes:
        index_N: Ascending, of the source's images.
        labels_N: int64 in [0, len(class_names)).
        class_names: Names of the chosen classes, by label.
    """

    index_N: Int64Array
    labels_N: Int64Array
    class_names: tuple[str, ...]

    def part(self, position_M: Int64Array) -> "ChosenImages":
        """Return only the images at some positions."""
        return ChosenImages(self.index_N[position_M], self.labels_N[position_M], self.class_names)


def choose_images(source: ImageSource, *, num_classes: int | None, num_images: int | None, seed: int) -> ChosenImages:
    """Return which images of a source are taken, without decoding any; see :func:`load_images`."""
    class_counts(source.labels_N, source.class_names)
    of_classes = _of_classes(source, num_classes, seed)
    if num_images is None or num_images >= len(of_classes.index_N):
        return of_classes
    return of_classes.part(stratified_sample(of_classes.labels_N, num_images, seed))


def choose_left_out(
    source: ImageSource, *, num_classes: int | None, num_images: int, seed: int, num_left_out: int
) -> ChosenImages:
    """Return at most so many random images of the same classes that :func:`choose_images` does not take."""
    of_classes = _of_classes(source, num_classes, seed)
    taken = choose_images(source, num_classes=num_classes, num_images=num_images, seed=seed)
    left_M = np.flatnonzero(~np.isin(of_classes.index_N, taken.index_N))
    return of_classes.part(np.sort(generator(seed, None, "left-out images").permutation(left_M)[:num_left_out]))


def _of_classes(source: ImageSource, num_classes: int | None, seed: int) -> ChosenImages:
    classes = chosen_classes(len(source.class_names), num_classes, seed)
    index_N = np.flatnonzero(np.isin(source.labels_N, classes))
    labels_N = np.searchsorted(classes, source.labels_N[index_N]).astype(np.int64)
    return ChosenImages(index_N, labels_N, tuple(source.class_names[label] for label in classes))


def decode_chosen(
    source: ImageSource, chosen: ChosenImages, resolution: int, on_progress: Callable[[float], None] | None = None
) -> ImageData:
    """Decode the chosen images of a source at one resolution; see :func:`load_images`."""
    images_NHWC = source.decode(chosen.index_N, resolution, on_progress)
    return ImageData(images_NHWC, chosen.labels_N, chosen.class_names)


def open_source(name: str, data_root: Path | None) -> LocalSource:
    """Return the source of a data set's images, with its labels read.

    Raises:
        DataSetError: If there is none of that name, or it is damaged.
    """
    if is_hub_data_set(name):
        raise DataSetError(f"{name!r} lies on the Hugging Face hub; only workers read it")
    if not _NAME.fullmatch(name):
        raise DataSetError(f"{name[:120]!r} is no data set name: use letters, digits, '.', '_' and '-'")
    if name == "digits":
        return digits_source()
    try:
        source = _source_under(data_root, name) if data_root is not None else None
    except OSError as error:
        raise DataSetError(f"the data set {name!r} cannot be read ({error.strerror or error})") from error
    if source is None and name == "fashion-mnist" and _has_idx(FASHION_MNIST_DIRECTORY):
        return idx_source(FASHION_MNIST_DIRECTORY, _FASHION_MNIST_CLASSES)
    if source is None:
        raise DataSetError(_unknown(name, data_root))
    return source


def _source_under(root: Path, name: str) -> LocalSource | None:
    """The data set of that name under the root; None if nothing there bears the name."""
    for path in (root / name, root / f"{name}.npz", root / f"{name}.parquet"):
        if path.exists():
            check_inside(path, root)
            if path.suffix == ".npz" and path.is_file():
                return npz_source(path)
            if path.suffix == ".parquet" and path.is_file():
                return ParquetSource([path])
            if path.is_dir():
                return _directory_source(path, root)
    return None


def _directory_source(folder: Path, root: Path) -> LocalSource:
    """Parquet files, MNIST's idx files or class folders, in this order."""
    if parquet := _parquet_files(folder):
        for path in parquet:
            check_inside(path, root)
        return ParquetSource(parquet)
    if _has_idx(folder):
        for file in IDX_FILES:
            check_inside(folder / file, root)
        return idx_source(folder, _FASHION_MNIST_CLASSES if folder.name == "fashion-mnist" else None)
    with_classes = folder_of_classes(folder)
    if class_folders(with_classes):
        return FolderSource(with_classes, root)
    raise DataSetError(
        f"the folder {folder.name!r} under the data root holds no data set: it needs train*.parquet, or a folder of "
        "images per class"
    )


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("train*.parquet")) or sorted(folder.glob("data/train*.parquet"))


def _has_idx(folder: Path) -> bool:
    return all((folder / file).is_file() for file in IDX_FILES)


def _looks_like_data_set(path: Path) -> bool:
    try:
        return _holds_images(path)
    # a link that leads nowhere, a folder that may not be read, splits without classes: no reason to list nothing
    except (OSError, DataSetError):
        return False


def _holds_images(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".npz", ".parquet")
    if _parquet_files(path) or _has_idx(path):
        return True
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES
        for folder in class_folders(folder_of_classes(path))
        for file in folder.iterdir()
    )


def _unknown(name: str, data_root: Path | None) -> str:
    message = f"there is no data set {name!r}; there are {', '.join(available(data_root))}"
    if name == "fashion-mnist":
        message += "; install Debian's dataset-fashion-mnist, or ask for hub:zalando-datasets/fashion_mnist"
    elif data_root is None:
        message += "; set the data root to the folder that holds your own"
    return message
