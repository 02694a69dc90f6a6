"""The images of a search as uint8 tensors that live on the device: training, validation and calibration.

Tensors: N images, C = 3 channels, H x W pixels. Images stay uint8 until a batch is normalised, so that a whole proxy
data set fits into a GPU's memory beside the supernet and no batch crosses the bus.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """Map uint8 images [N, 3, H, W] to float32 with zero mean and unit variance over the training images.

        The memory format (channels_last or not) is kept.
        """
        scale_1C11 = (1.0 / (255.0 * self.std_C)).view(1, -1, 1, 1)
        shift_1C11 = (-self.mean_C / self.std_C).view(1, -1, 1, 1)
        return torch.addcmul(shift_1C11, images_NCHW.to(torch.float32), scale_1C11)


def _check_images(part: str, images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"the {part} images must be uint8 [N, 3, H, W], not {images.dtype} {tuple(images.shape)}")
    if not len(images):
        raise ValueError(f"there are no {part} images; give at least one")
