"""What a person wants to see of a data set before a search: its classes, the kinds of images, broken ones by name."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.domain.data_sets import LocalSource
from app.domain.image_sources import ArraySource, Int64Array
from app.domain.images import DataSetError, ImageFacts, UInt8Array, examine_image

MAX_LISTED = 100
"""Broken images that are named, and sizes that are counted by themselves."""


@dataclass(frozen=True)
class SizeCount:
    """How many of the examined images have one size, in pixels."""

    width: int
    height: int
    num_images: int


@dataclass(frozen=True)
class DataSetPreview:
    """What a data set holds, and what was found in the images that were examined.

    Attributes:
        num_images: All its training images.
        num_bytes: Their size as stored.
        class_names: Names of the classes.
        class_counts: Images of every class.
        num_examined: How many images were decoded, evenly spread.
        num_sizes: How many different sizes they have.
        sizes: The most frequent ones.
        modes: How many of them are of which kind (Pillow's modes; ``L`` is grey).
        num_broken: How many of them cannot be read.
        broken: The first of these, each with its problem.
    """

    num_images: int
    num_bytes: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    num_examined: int
    num_sizes: int
    sizes: tuple[SizeCount, ...]
    modes: dict[str, int]
    num_broken: int
    broken: tuple[ImageFacts, ...]


@dataclass(frozen=True)
class ClassSamples:
    """Some images of a class, as small PNG files."""

    class_name: str
    pngs: tuple[bytes, ...]


def preview(source: LocalSource, num_examined: int) -> DataSetPreview:
    """Describe a data set, examining up to so many of its images, evenly spread.

    Raises:
        DataSetError: If none of the images can be read at all.
    """
    num_images = len(source.labels_N)
    chosen_N = np.unique(np.linspace(0, num_images - 1, min(num_examined, num_images)).astype(np.int64))
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    broken = []
    for facts in _examined(source, chosen_N):
        if facts.problem is not None:
            broken.append(facts)
        else:
            sizes[facts.width, facts.height] += 1
            modes[facts.mode] += 1
    return DataSetPreview(
        num_images=num_images,
        num_bytes=source.num_bytes,
        class_names=source.class_names,
        class_counts=tuple(np.bincount(source.labels_N, minlength=len(source.class_names)).tolist()),
        num_examined=len(chosen_N),
        num_sizes=len(sizes),
        sizes=tuple(SizeCount(*size, count) for size, count in sizes.most_common(MAX_LISTED)),
        modes=dict(modes.most_common()),
        num_broken=len(broken),
        broken=tuple(broken[:MAX_LISTED]),
    )


def class_samples(
    source: LocalSource, *, per_class: int, resolution: int, labels: Sequence[int]
) -> tuple[ClassSamples, ...]:
    """Return a few images of some classes as a search would see them, evenly spread; broken ones are left out.

    Args:
        source: The images.
        per_class: How many of each class, at most.
        resolution: Their height and width, in pixels.
        labels: The classes.
    """
    chosen = [_spread(np.flatnonzero(source.labels_N == label), per_class) for label in labels]
    decoded = _decoded(source, np.sort(np.concatenate([*chosen, np.empty(0, np.int64)])), resolution)
    return tuple(
        ClassSamples(source.class_names[label], tuple(_png(decoded[i]) for i in index_N.tolist() if i in decoded))
        for label, index_N in zip(labels, chosen, strict=True)
    )


def _examined(source: LocalSource, index_N: Int64Array) -> Iterator[ImageFacts]:
    if not isinstance(source, ArraySource):
        yield from map(examine_image, source.encoded(index_N))
        return
    # raw arrays cannot be broken one by one, and have one size
    pixels = source.pixels()
    mode = "RGB" if pixels.ndim == 4 and pixels.shape[3] == 3 else "L"
    for index in index_N.tolist():
        yield ImageFacts(f"image {index}", pixels.shape[2], pixels.shape[1], mode)


def _spread(members: Int64Array, count: int) -> Int64Array:
    chosen: Int64Array = members[np.linspace(0, len(members) - 1, min(count, len(members))).astype(np.int64)]
    return chosen


def _decoded(source: LocalSource, index_N: Int64Array, resolution: int) -> dict[int, UInt8Array]:
    """The images of an ascending index that can be read, by index."""
    try:
        return dict(zip(index_N.tolist(), source.decode(index_N, resolution), strict=True))
    except (DataSetError, OSError):
        # one is broken: which of them shows one by one
        found = {}
        for index in index_N:
            try:
                found[int(index)] = source.decode(np.array([index]), resolution)[0]
            except (DataSetError, OSError):
                continue
        return found


def _png(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
