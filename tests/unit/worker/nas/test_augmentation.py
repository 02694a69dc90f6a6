"""Crops and flips, against the same thing done image by image."""

import torch
import torch.nn.functional as F  # noqa: N812

from worker.nas.augmentation import augment


def images(resolution=16, num_images=64):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (num_images, resolution, resolution, 3), dtype=torch.uint8, generator=generator)
    return pixels.permute(0, 3, 1, 2)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def candidates(image, flip):
    padding = max(1, image.shape[-1] // 8)
    padded = F.pad(image, [padding] * 4)
    size = image.shape[-1]
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + size, left : left + size]
            yield (top, left, False), crop
            if flip:
                yield (top, left, True), crop.flip(-1)


def places(batch, augmented, flip):
    return [
        next((key for key, crop in candidates(image, flip) if torch.equal(crop, out)), None)
        for image, out in zip(batch, augmented, strict=True)
    ]


def test_none_is_the_batch_itself():
    batch = images()
    assert augment(batch, "none", generator()) is batch


def test_every_image_is_a_crop_of_its_padded_self_and_all_places_occur():
    batch = images(num_images=300)
    found = places(batch, augment(batch, "crop", generator()), flip=False)
    assert None not in found
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(5))


def test_about_half_are_flipped():
    batch = images(num_images=300)
    found = places(batch, augment(batch, "crop-flip", generator()), flip=True)
    assert None not in found
    assert 110 < sum(flipped for _, _, flipped in found) < 190


def test_draws_come_from_the_generator_only():
    batch = images()
    assert torch.equal(augment(batch, "crop-flip", generator()), augment(batch, "crop-flip", generator()))
    assert not torch.equal(augment(batch, "crop-flip", generator()), augment(batch, "crop-flip", generator(2)))


def test_layout_and_type_stay():
    out = augment(images(), "crop-flip", generator())
    assert out.dtype == torch.uint8
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_tiny_images_work_too():
    assert augment(images(resolution=4), "crop", generator()).shape == (64, 3, 4, 4)
