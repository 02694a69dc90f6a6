"""Augmentation of whole batches on the device: random crop with padding, and horizontal flip.

Tensors: N images, C = 3 channels, H = W = R pixels; uint8.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

Augmentation = Literal["none", "crop", "crop-flip"]
"""``crop`` alone is for images that a mirror changes, such as digits."""

AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


def augment(images_NCHW: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return the images, each cropped at a random place of its zero-padded self, and flipped in one of two cases.

    Args:
        images_NCHW: uint8 [N, 3, R, R] in channels_last.
        augmentation: What to do.
        generator: A generator of the CPU: the same draws on every device and in every replica.

    Returns:
        uint8 [N, 3, R, R] in channels_last; the argument itself for ``"none"``.
    """
    if augmentation == "none":
        return images_NCHW
    num_images, resolution = len(images_NCHW), images_NCHW.shape[-1]
    padding = max(1, resolution // 8)
    offsets_2N = torch.randint(0, 2 * padding + 1, (2, num_images), generator=generator)
    steps_R = torch.arange(resolution)
    rows_NR = offsets_2N[0, :, None] + steps_R
    columns_NR = offsets_2N[1, :, None] + steps_R
    if augmentation == "crop-flip":
        flipped_N1 = torch.rand(num_images, 1, generator=generator) < 0.5
        columns_NR = torch.where(flipped_N1, columns_NR.flip(1), columns_NR)
    padded_NHWC = F.pad(images_NCHW.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    side = resolution + 2 * padding
    image_N11 = torch.arange(num_images)[:, None, None] * side * side
    pixel_NRR = image_N11 + rows_NR[:, :, None] * side + columns_NR[:, None, :]
    # One row per pixel: a gather of rows copies its three channels at once.
    pixels = padded_NHWC.reshape(-1, 3).index_select(0, pixel_NRR.reshape(-1).to(images_NCHW.device))
    return pixels.view(num_images, resolution, resolution, 3).permute(0, 3, 1, 2)
