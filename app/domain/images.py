"""Encoded images to square RGB arrays of one size: the one way in which every image of a search is read.

Arrays: R x R pixels, 3 channels (RGB), uint8.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

UInt8Array = npt.NDArray[np.uint8]
Encoded = tuple[bytes | Path, str]
"""An encoded image (its bytes, or the file they are in) and what to call it in an error."""

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

MAX_ENCODED_BYTES = 64 * 2**20
"""Of one image inside an archive file."""

_CHUNK = 64
_HELD_BYTES = 64 * 2**20
"""Encoded images that wait to be decoded; one more may be larger by itself."""
_EXAMINED_RESOLUTION = 16
_THREADED_BYTES = 16 * 2**10
"""Below this an image is decoded faster than threads can hand the interpreter lock around."""
_EXIF_ORIENTATION = 0x0112


class DataSetError(ValueError):
    """A data set that is unknown, damaged, or not fit for a search."""


def decode_image(encoded: Encoded, resolution: int) -> UInt8Array:
    """Return one encoded image as uint8 [R, R, 3]: first frame, upright, centre crop, antialiased resize.

    Raises:
        DataSetError: If it is no image, truncated, or has more pixels than Pillow allows (a decompression bomb).
    """
    payload, origin = encoded
    try:
        with Image.open(io.BytesIO(payload) if isinstance(payload, bytes) else payload) as image:
            _check_pixels(image, origin)
            # JPEG can be decoded at a fraction of its size; twice the target leaves the resize something to average.
            image.draft("RGB", (2 * resolution, 2 * resolution))
            return square(_upright(image), resolution, origin)
    except DataSetError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataSetError(f"{origin} is too large an image: {error}") from error
    except FileNotFoundError as error:
        raise DataSetError(f"{origin} disappeared while it was being read") from error
    # Pillow's readers let all of these through for damaged files.
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        # Pillow names the object that it could not identify, with its address in memory
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataSetError(f"{origin} is a corrupt or truncated image ({reason}); replace or remove it") from error


@dataclass(frozen=True)
class ImageFacts:
    """What an image is, as it is stored.

    Attributes:
        origin: What to call it.
        width: In pixels; 0 where it cannot be read.
        height: In pixels; 0 where it cannot be read.
        mode: Pillow's name of the kind of its pixels (L is grey); empty where it cannot be read.
        problem: Why it cannot be read, or None.
    """

    origin: str
    width: int = 0
    height: int = 0
    mode: str = ""
    problem: str | None = None


def examine_image(encoded: Encoded) -> ImageFacts:
    """Decode an image as a search would, and say what it is or what is wrong with it."""
    payload, origin = encoded
    try:
        decode_image(encoded, _EXAMINED_RESOLUTION)
        with Image.open(io.BytesIO(payload) if isinstance(payload, bytes) else payload) as image:
            return ImageFacts(origin, image.width, image.height, image.mode)
    except (DataSetError, OSError) as error:
        return ImageFacts(origin, problem=str(error))


def decode_images(
    encoded: Iterable[Encoded], num_images: int, resolution: int, on_progress: Callable[[float], None] | None = None
) -> UInt8Array:
    """Return ``num_images`` encoded images as uint8 [N, R, R, 3], decoded by a few threads, in order.

    Args:
        encoded: The images; at most some hundred, or some 64 MiB, are held at a time.
        num_images: How many there are.
        resolution: R, in pixels.
        on_progress: Called with the fraction done; may raise to stop.

    Raises:
        DataSetError: At the first image that cannot be read.
    """
    images_NHWC = np.empty((num_images, resolution, resolution, 3), dtype=np.uint8)
    done = 0
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for group in _groups(encoded, 4 * threads * _CHUNK):
            map_chunks = pool.map if _is_large(group[0]) else map
            chunks = [group[first : first + _CHUNK] for first in range(0, len(group), _CHUNK)]
            for decoded in map_chunks(lambda chunk: [decode_image(image, resolution) for image in chunk], chunks):
                images_NHWC[done : done + len(decoded)] = decoded
                done += len(decoded)
            if on_progress is not None:
                on_progress(done / num_images)
    assert done == num_images
    return images_NHWC


def resize_arrays(
    images: UInt8Array, resolution: int, on_progress: Callable[[float], None] | None = None
) -> UInt8Array:
    """Return raw images, uint8 [N, H, W] or [N, H, W, 1 or 3], as uint8 [N, R, R, 3]."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    resized_NHWC = np.empty((len(images), resolution, resolution, 3), dtype=np.uint8)
    for index, pixels in enumerate(images):
        resized_NHWC[index] = square(Image.fromarray(np.ascontiguousarray(pixels)), resolution, f"image {index}")
        if on_progress is not None and index % 1024 == 1023:
            on_progress((index + 1) / len(images))
    return resized_NHWC


def square(image: Image.Image, resolution: int, origin: str) -> UInt8Array:
    """Return an opened image as uint8 [R, R, 3], centre-cropped to a square and resized with antialiasing."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    converted = _eight_bits(image, origin)
    if (width, height) != (resolution, resolution):
        box = (left, top, left + side, top + side)
        converted = converted.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box)
    return np.asarray(converted if converted.mode == "RGB" else converted.convert("RGB"))


def _is_large(encoded: Encoded) -> bool:
    payload = encoded[0]
    return not isinstance(payload, bytes) or len(payload) >= _THREADED_BYTES


def _check_pixels(image: Image.Image, origin: str) -> None:
    """Pillow only warns below twice its limit; for files that users bring, its limit is ours."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataSetError(f"{origin} has {image.width}x{image.height} pixels; at most {limit:,} are read")


def _upright(image: Image.Image) -> Image.Image:
    """Cameras store the sensor's rows and say in EXIF how they were held."""
    return image if image.getexif().get(_EXIF_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, origin: str) -> Image.Image:
    """Return an image in mode L or RGB: palettes looked up, transparency on white, deeper grey values scaled."""
    if image.mode in ("RGB", "L"):
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scaled_grey(np.asarray(image), image.mode, origin))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _scaled_grey(values: npt.NDArray[np.generic], mode: str, origin: str) -> UInt8Array:
    """Grey values of more than 8 bits: integers are 16-bit, floats lie in [0, 1] or else in [0, 255]."""
    numbers = values.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    if mode == "F":
        limit, factor = 255.0, 255.0 if high <= 1.0 else 1.0
    else:
        limit, factor = 65535.0, 255.0 / 65535.0
    if not (low >= 0 and high <= limit):  # also false for NaN
        raise DataSetError(f"{origin} has grey values from {low:g} to {high:g}; store 8-bit or 16-bit images")
    return np.rint(numbers * factor).astype(np.uint8)


def _groups(encoded: Iterable[Encoded], size: int) -> Iterator[Sequence[Encoded]]:
    """Images in order, some at a time: up to ``size``, and fewer where they are large."""
    group: list[Encoded] = []
    held = 0
    for image in encoded:
        group.append(image)
        held += len(image[0]) if isinstance(image[0], bytes) else 0
        if len(group) == size or held >= _HELD_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group
