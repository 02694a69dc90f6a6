"""Which classes and images of a data set a search takes, each class in proportion (section 4.1 of the paper)."""

import numpy as np
import numpy.typing as npt

from app.domain.image_sources import Int64Array
from app.domain.images import DataSetError
from app.domain.seeds import generator

MIN_IMAGES_PER_CLASS = 2
"""One to train with and one to evaluate with."""


def stratified_split(labels_N: Int64Array, validation_fraction: float, seed: int) -> tuple[Int64Array, Int64Array]:
    """Split images into training and validation, every class in both (the paper: 90 % and 10 %, section 4.1).

    Returns:
        Ascending indices of the training and of the validation images.

    Raises:
        DataSetError: If the fraction is not between 0 and 1, or a class has fewer than two images.
    """
    if not 0.0 < validation_fraction < 1.0:
        raise DataSetError(f"the validation fraction must lie between 0 and 1, not be {validation_fraction}")
    rng = generator(seed, None, "validation split")
    held_out = []
    for label in np.unique(labels_N):
        members = np.flatnonzero(labels_N == label)
        if len(members) < MIN_IMAGES_PER_CLASS:
            raise DataSetError(f"class {label} has {len(members)} image; training and validation need one each")
        num_held_out = min(max(1, round(validation_fraction * len(members))), len(members) - 1)
        held_out.append(rng.permutation(members)[:num_held_out])
    validation = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels_N)), validation), validation


def class_counts(labels_N: Int64Array, class_names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the number of images of every class.

    Raises:
        DataSetError: If there are fewer than two classes, or fewer than two images of one.
    """
    counts = np.bincount(labels_N, minlength=len(class_names))
    if len(counts) < 2:
        raise DataSetError(f"the data set has one class only ({class_names[0]!r}); a search needs at least two")
    if counts.min() < MIN_IMAGES_PER_CLASS:
        rarest = class_names[int(counts.argmin())]
        raise DataSetError(
            f"class {rarest!r} has {counts.min()} image(s); every class needs at least {MIN_IMAGES_PER_CLASS}, for "
            "training and validation"
        )
    return counts


def chosen_classes(num_available: int, num_classes: int | None, seed: int) -> Int64Array:
    """Return the ascending labels of a random class subset (the paper: 100 of 1,000), or of all classes.

    Raises:
        DataSetError: If the data set has not that many, or fewer than two are asked for.
    """
    if num_classes is None:
        return np.arange(num_available)
    if not 2 <= num_classes <= num_available:
        raise DataSetError(f"num_classes must be 2 to {num_available} for this data set, not {num_classes}")
    return np.sort(generator(seed, None, "class subset").permutation(num_available)[:num_classes])


def stratified_sample(labels_N: Int64Array, num_images: int, seed: int) -> Int64Array:
    """Return ascending positions of ``num_images`` images, each class in proportion and at least twice.

    Raises:
        DataSetError: If they are too few for that.
    """
    counts = np.bincount(labels_N)
    spare = num_images - MIN_IMAGES_PER_CLASS * len(counts)
    if spare < 0:
        raise DataSetError(
            f"{len(counts)} classes need num_images of at least {MIN_IMAGES_PER_CLASS * len(counts)}, not {num_images}"
        )
    free = counts - MIN_IMAGES_PER_CLASS
    shares = free * (spare / max(1, free.sum()))
    quotas = np.floor(shares).astype(np.int64)
    # Largest remainders get what rounding down left; no class can get more than it has.
    by_remainder = np.argsort(quotas - shares, kind="stable")
    quotas[by_remainder[: spare - int(quotas.sum())]] += 1
    rng = generator(seed, None, "image subset")
    chosen = [
        rng.permutation(np.flatnonzero(labels_N == label))[: MIN_IMAGES_PER_CLASS + quota]
        for label, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(chosen))
