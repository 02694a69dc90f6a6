"""The images of a search as uint8 tensors that live on the device: training, validation and calibration.

Tensors: N images, C = 3 channels, H x W pixels. Images stay uint8 until a batch is normalised, so that a whole proxy
data set fits into a GPU's memory beside the supernet and no batch crosses the bus.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.domain.data_sets import (
    DataSetError,
    ImageData,
    choose_images,
    choose_left_out,
    decode_chosen,
    is_hub_data_set,
    open_source,
    stratified_split,
)
from app.domain.image_sources import ImageSource, Int64Array
from app.domain.images import UInt8Array
from app.domain.seeds import generator
from worker.nas.device import memory_at_hand

_MAX_MEMORY_SHARE = 0.5
_STATISTICS_IMAGES = 4096
_DIGEST_PIXELS = 8
"""Rows and columns of each image that its digest looks at."""


@dataclass(frozen=True)
class SearchData:
    """D_train, D_val and the calibration set of a search (section 3.1), on one device.

    Attributes:
        train_images_NCHW: uint8, the images that train the supernet.
        train_labels_N: int64 in [0, num_classes).
        validation_images_NCHW: uint8, the held-out images that sub-networks are evaluated on.
        validation_labels_N: int64 in [0, num_classes).
        calibration_images_NCHW: uint8, training images on which BN statistics are recalibrated.
        mean_C: float32 mean of the training images' channels, in units of [0, 1].
        std_C: float32 standard deviation of the training images' channels, in units of [0, 1]; positive.
        num_classes: Classes of the task.
        class_names: Their names, by label.
    """

    train_images_NCHW: Tensor
    train_labels_N: Tensor
    validation_images_NCHW: Tensor
    validation_labels_N: Tensor
    calibration_images_NCHW: Tensor
    mean_C: Tensor
    std_C: Tensor
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "validation"):
            images, labels = getattr(self, f"{part}_images_NCHW"), getattr(self, f"{part}_labels_N")
            _check_images(part, images)
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
                raise ValueError(f"the {part} labels must be int64, one per image ({len(images)})")
            if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
                raise ValueError(f"the {part} labels must lie in 0 to {self.num_classes - 1}")
        _check_images("calibration", self.calibration_images_NCHW)
        if self.mean_C.shape != (3,) or self.std_C.shape != (3,) or not bool((self.std_C > 0).all()):
            raise ValueError("mean and standard deviation must be three numbers each, the latter positive")

    @property
    def resolution(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.train_images_NCHW.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.train_images_NCHW.device

    def to(self, device: torch.device | str) -> "SearchData":
        """Return the same data on another device; itself if it is there already."""
        if torch.device(device) == self.device:
            return self
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def digest(self) -> str:
        """Return a digest of which images train and which validate: of their labels and of pixels of each image."""
        digest = hashlib.blake2b(digest_size=16)
        for part in ("train", "validation"):
            images, labels = getattr(self, f"{part}_images_NCHW"), getattr(self, f"{part}_labels_N")
            step = -(-self.resolution // _DIGEST_PIXELS)
            for tensor in (labels, images[:, :, step // 2 :: step, step // 2 :: step]):
                digest.update(f"{tuple(tensor.shape)}|".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """Map uint8 images [N, 3, H, W] to float32 with zero mean and unit variance over the training images.

        The memory format (channels_last or not) is kept.
        """
        scale_1C11 = (1.0 / (255.0 * self.std_C)).view(1, -1, 1, 1)
        shift_1C11 = (-self.mean_C / self.std_C).view(1, -1, 1, 1)
        return torch.addcmul(shift_1C11, images_NCHW.to(torch.float32), scale_1C11)


def load_search_data(
    name: str,
    data_root: Path | None,
    *,
    resolution: int,
    num_classes: int | None,
    num_images: int | None,
    validation_fraction: float,
    num_calibration_images: int,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> SearchData:
    """Load a data set, split it and return it as tensors on the CPU (section 4.1).

    Args:
        name: A data set's name, or ``hub:OWNER/NAME``.
        data_root: The folder of the operator's data sets.
        resolution: Of the trained networks' input, in pixels.
        num_classes: A random subset of so many classes; None takes all.
        num_images: At most so many images for training and validation together; None takes all.
        validation_fraction: Share held out for evaluation, class by class.
        num_calibration_images: How many training images recalibrate BN statistics; at most all of them.
        seed: The search's seed.
        on_progress: Called with the fraction decoded; may raise to stop.

    Raises:
        DataSetError: If the data set cannot be read, or cannot give what is asked for.
    """
    if num_calibration_images < 2:
        raise DataSetError(f"num_calibration_images must be at least 2, not {num_calibration_images}")
    source = _open(name, data_root, on_progress)
    chosen = choose_images(source, num_classes=num_classes, num_images=num_images, seed=seed)
    # only what will be decoded: of ImageNet with 100 of its 1,000 classes, a tenth
    _check_memory(len(chosen.index_N), resolution)
    images = decode_chosen(source, chosen, resolution, on_progress)
    return split_search_data(
        images, validation_fraction=validation_fraction, num_calibration_images=num_calibration_images, seed=seed
    )


def with_left_out(
    data: SearchData,
    name: str,
    data_root: Path | None,
    *,
    num_validation_images: int,
    num_classes: int | None,
    num_images: int | None,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> SearchData:
    """Return the data with more validation images: some of the data set's that a search leaves out.

    Args:
        data: What :func:`load_search_data` gave; the arguments that it had as well are the same.
        name: The data set.
        data_root: The folder of the operator's data sets.
        num_validation_images: How many there shall be, if the search leaves so many out; no more are added than it
            takes for itself.
        num_classes: Of the random subset.
        num_images: The cap that leaves images out; None leaves none.
        seed: The search's seed.
        on_progress: Called with the fraction decoded; may raise to stop.

    Raises:
        DataSetError: If the data set cannot be read.
    """
    wanted = num_validation_images - len(data.validation_labels_N)
    if num_images is None or wanted <= 0:
        return data
    source = _open(name, data_root, on_progress)
    left_out = choose_left_out(
        source, num_classes=num_classes, num_images=num_images, seed=seed, num_left_out=min(wanted, num_images)
    )
    if not len(left_out.index_N):
        return data
    _check_memory(len(left_out.index_N), data.resolution)
    images_NCHW = _tensor_NCHW(decode_chosen(source, left_out, data.resolution, on_progress).images_NHWC)
    labels_N = torch.from_numpy(left_out.labels_N)
    return dataclasses.replace(
        data,
        validation_images_NCHW=torch.cat([data.validation_images_NCHW, images_NCHW.to(data.device)]),
        validation_labels_N=torch.cat([data.validation_labels_N, labels_N.to(data.device)]),
    )


def _open(name: str, data_root: Path | None, on_progress: Callable[[float], None] | None) -> ImageSource:
    if not is_hub_data_set(name):
        return open_source(name, data_root)
    # Imported here: seconds, for the few searches that read from the hub.
    from worker.nas.hub_images import open_hub_source

    report = on_progress or (lambda fraction: None)
    return open_hub_source(name, lambda: report(0.0))


def split_search_data(
    images: ImageData, *, validation_fraction: float, num_calibration_images: int, seed: int
) -> SearchData:
    """Split loaded images into training, validation and calibration; see :func:`load_search_data`."""
    train, validation = stratified_split(images.labels_N, validation_fraction, seed)
    calibration = np.sort(generator(seed, None, "calibration images").permutation(train)[:num_calibration_images])
    mean_C, std_C = _channel_statistics(images.images_NHWC, train)
    labels_N = torch.from_numpy(images.labels_N)
    return SearchData(
        train_images_NCHW=_tensor_NCHW(images.images_NHWC[train]),
        train_labels_N=labels_N[train],
        validation_images_NCHW=_tensor_NCHW(images.images_NHWC[validation]),
        validation_labels_N=labels_N[validation],
        calibration_images_NCHW=_tensor_NCHW(images.images_NHWC[calibration]),
        mean_C=mean_C,
        std_C=std_C,
        num_classes=len(images.class_names),
        class_names=images.class_names,
    )


def _tensor_NCHW(images_NHWC: UInt8Array) -> Tensor:
    """The same memory seen as [N, 3, R, R]: channels_last."""
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)


def _channel_statistics(images_NHWC: UInt8Array, index_N: Int64Array) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels, from exact integer sums, chunk by chunk."""
    totals_C, squares_C = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for first in range(0, len(index_N), _STATISTICS_IMAGES):
        pixels = images_NHWC[index_N[first : first + _STATISTICS_IMAGES]].reshape(-1, 3)
        for channel in range(3):
            counts = np.bincount(pixels[:, channel], minlength=256)
            totals_C[channel] += counts @ np.arange(256)
            squares_C[channel] += counts @ np.arange(256) ** 2
    num_pixels = len(index_N) * images_NHWC.shape[1] ** 2
    mean_C = totals_C / num_pixels
    std_C = np.sqrt(np.maximum(squares_C / num_pixels - mean_C**2, 0.0))
    # A channel without contrast (all one grey) must not divide by zero; one grey level is the least that can differ.
    scaled = (mean_C / 255.0, np.maximum(std_C, 1.0) / 255.0)
    return torch.tensor(scaled[0], dtype=torch.float32), torch.tensor(scaled[1], dtype=torch.float32)


def _check_memory(num_images: int, resolution: int) -> None:
    needed, at_hand = num_images * resolution**2 * 3, memory_at_hand(torch.device("cpu"))
    if needed > _MAX_MEMORY_SHARE * at_hand:
        raise DataSetError(
            f"{num_images} images at {resolution} px take {needed / 2**30:.1f} GiB, and this machine has "
            f"{at_hand / 2**30:.1f} GiB in all; lower num_images, num_classes or the proxy resolution"
        )


def _check_images(part: str, images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"the {part} images must be uint8 [N, 3, H, W], not {images.dtype} {tuple(images.shape)}")
    if not len(images):
        raise ValueError(f"there are no {part} images; give at least one")
