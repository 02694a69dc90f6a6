"""What a person wants to see of a data set before a search: its classes, the kinds of images, broken ones by name."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.domain.image_examination import ImageFacts, LocalSource, examine
from app.domain.image_sources import Int64Array
from app.domain.images import DataSetError, UInt8Array

MAX_SIZES = 100
"""Sizes that are counted by themselves."""


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
        num_examined: How many images were looked at: all of them, unless that took too long.
        num_decoded: How many of those were decoded in full, evenly spread.
        num_sizes: How many different sizes they have.
        sizes: The most frequent ones.
        modes: How many of them are of which kind (Pillow's modes; ``L`` is grey).
        num_broken: How many of them cannot be read.
        broken: The first of these, up to 1,000, each with its problem.
    """

    num_images: int
    num_bytes: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    num_examined: int
    num_decoded: int
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


def preview(source: LocalSource, num_decoded: int | None = None) -> DataSetPreview:
    """Describe a data set; its images are examined as for a search, see :func:`~.image_examination.examine`.

    Raises:
        DataSetError: If none of the images can be read at all.
    """
    found = examine(source, num_decoded)
    sizes = sorted(found.sizes.items(), key=lambda size: -size[1])
    return DataSetPreview(
        num_images=len(source.labels_N),
        num_bytes=source.num_bytes,
        class_names=source.class_names,
        class_counts=tuple(np.bincount(source.labels_N, minlength=len(source.class_names)).tolist()),
        num_examined=found.num_examined,
        num_decoded=found.num_decoded,
        num_sizes=len(sizes),
        sizes=tuple(SizeCount(*size, count) for size, count in sizes[:MAX_SIZES]),
        modes=dict(sorted(found.modes.items(), key=lambda mode: -mode[1])),
        num_broken=found.num_broken,
        broken=found.broken,
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
