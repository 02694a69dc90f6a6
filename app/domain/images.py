"""Encoded images to square RGB arrays of one size: the one way in which every image of a search is read.

Arrays: R x R pixels, 3 channels (RGB), uint8.
"""

import errno
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
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

_HELD_BYTES = 64 * 2**20
"""Encoded images that wait to be decoded; one more may be larger by itself."""
_THREADED_BYTES = 16 * 2**10
"""Below this an image is decoded faster than threads can hand the interpreter lock around."""
_AHEAD = 16
"""Images per thread that are read before their turn."""
_REPORT_S = 0.5
"""Seconds between two reports: whoever cancels waits for the next one."""
_OF_THE_FILE = {
    None,
    errno.EINVAL,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EOVERFLOW,
}
"""Errors that stay until the file is mended: Pillow's own bear no number, and it seeks to where a damaged file says."""
EXIF_ORIENTATION = 0x0112


class DataSetError(ValueError):
    """A data set that is unknown, damaged, or not fit for a search."""


def decode_image(encoded: Encoded, resolution: int) -> UInt8Array:
    """Return one encoded image as uint8 [R, R, 3]: first frame, upright, centre crop, antialiased resize.

    Raises:
        DataSetError: If it is no image, truncated, or has more pixels than Pillow allows (a decompression bomb).
        OSError: If the system cannot read it now, which says nothing about the image.
    """
    payload, origin = encoded
    with (
        naming_damage(origin),
        Image.open(io.BytesIO(payload) if isinstance(payload, bytes) else payload) as image,
    ):
        check_pixels(image, origin)
        # JPEG can be decoded at a fraction of its size; twice the target leaves the resize something to average.
        image.draft("RGB", (2 * resolution, 2 * resolution))
        return square(_upright(image), resolution, origin)


@contextmanager
def naming_damage(origin: str) -> Iterator[None]:
    """Turn what Pillow raises for damaged files into an error that names the image.

    Raises:
        DataSetError: In the place of those.
        OSError: If the system cannot read it now, which says nothing about the image.
    """
    try:
        yield
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
        if isinstance(error, OSError) and error.errno not in _OF_THE_FILE:
            # a disk or a server that is away
            raise
        # Pillow names the object that it could not identify, with its address in memory
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataSetError(f"{origin} is a corrupt or truncated image ({reason}); replace or remove it") from error


def decode_images(
    encoded: Iterable[Encoded], num_images: int, resolution: int, on_progress: Callable[[float], None] | None = None
) -> UInt8Array:
    """Return ``num_images`` encoded images as uint8 [N, R, R, 3], decoded by a few threads, in order.

    Args:
        encoded: The images; at most a few dozen, or some 64 MiB, are held at a time.
        num_images: How many there are.
        resolution: R, in pixels.
        on_progress: Called about twice a second with the fraction done; may raise to stop.

    Raises:
        DataSetError: At the first image that cannot be read.
        OSError: If the system cannot read it now, which says nothing about the image.
    """
    images_NHWC = np.empty((num_images, resolution, resolution, 3), dtype=np.uint8)
    progress = _Progress(num_images, on_progress)
    threads = min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    try:
        for image in _decoded(encoded, resolution, pool, _AHEAD * threads, progress):
            images_NHWC[progress.done] = image
            progress.one_more()
    finally:
        # Not waited for: where it was told to stop, threads are at images of any size.
        pool.shutdown(wait=False, cancel_futures=True)
    assert progress.done == num_images
    progress.report()
    return images_NHWC


class _Progress:
    """Images done, reported by the clock: one image takes 50 microseconds or 5 seconds."""

    def __init__(self, num_images: int, on_progress: Callable[[float], None] | None) -> None:
        self.done = 0
        self._num_images, self._on_progress = num_images, on_progress
        self._reported_s = -np.inf

    def one_more(self) -> None:
        """Count an image."""
        self.done += 1
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """Report if the last report is too long ago."""
        if time.monotonic() - self._reported_s >= _REPORT_S:
            self.report()

    def report(self) -> None:
        """Say how far it is; raises what the listener raises."""
        self._reported_s = time.monotonic()
        if self._on_progress is not None:
            self._on_progress(self.done / self._num_images)


def _decoded(
    encoded: Iterable[Encoded], resolution: int, pool: ThreadPoolExecutor, ahead: int, progress: _Progress
) -> Iterator[UInt8Array]:
    """Yield the images in order: large ones decoded by the pool, up to ``ahead`` at a time, small ones here."""
    pending: deque[tuple[Future[UInt8Array], int]] = deque()
    held = 0
    for image in encoded:
        if _is_large(image):
            size = len(image[0]) if isinstance(image[0], bytes) else 0
            pending.append((pool.submit(decode_image, image, resolution), size))
            held += size
        while pending and (len(pending) >= ahead or held >= _HELD_BYTES or not _is_large(image)):
            future, size = pending.popleft()
            held -= size
            yield _result(future, progress)
        if not _is_large(image):
            yield decode_image(image, resolution)
    for future, _ in pending:
        yield _result(future, progress)


def _result(future: Future[UInt8Array], progress: _Progress) -> UInt8Array:
    """Wait for an image, reporting meanwhile."""
    while not wait([future], _REPORT_S).done:
        progress.look_at_clock()
    return future.result()


def resize_arrays(
    images: UInt8Array, resolution: int, on_progress: Callable[[float], None] | None = None
) -> UInt8Array:
    """Return raw images, uint8 [N, H, W] or [N, H, W, 1 or 3], as uint8 [N, R, R, 3]."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    resized_NHWC = np.empty((len(images), resolution, resolution, 3), dtype=np.uint8)
    progress = _Progress(len(images), on_progress)
    for index, pixels in enumerate(images):
        resized_NHWC[index] = square(Image.fromarray(np.ascontiguousarray(pixels)), resolution, f"image {index}")
        progress.one_more()
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


def check_pixels(image: Image.Image, origin: str) -> None:
    """Refuse an image above Pillow's limit, below twice which it only warns.

    Raises:
        DataSetError: If it is above.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataSetError(f"{origin} has {image.width}x{image.height} pixels; at most {limit:,} are read")


def _upright(image: Image.Image) -> Image.Image:
    """Cameras store the sensor's rows and say in EXIF how they were held."""
    return image if image.getexif().get(EXIF_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)


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
