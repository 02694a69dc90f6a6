"""Looks at every image of a data set within seconds, before a search begins or when an upload has arrived.

A small data set is decoded in full. Of a larger one every image's header and end are read, which is where broken files
show (cut off, empty, something else by the name of an image), and an even sample is decoded. An image that looks wrong
that way is decoded too, so that none is called broken that a search could read.
"""

import os
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from app.domain.image_archives import ParquetSource
from app.domain.image_sources import ArraySource, Fingerprint, FolderSource
from app.domain.images import EXIF_ORIENTATION, DataSetError, Encoded, check_pixels, decode_image, naming_damage

LocalSource = ArraySource | FolderSource | ParquetSource

MAX_BROKEN = 1000
"""Broken images that are named; all are counted."""

TIME_LIMIT_S = 30.0
"""Some 500,000 images; what is not reached by then is left to the worker."""

_FULL_BYTES = 16 * 2**20
_FULL_IMAGES = 8192
_SAMPLE_IMAGES = 512
_RESOLUTION = 16
_CHECKSUM_BYTES = 64 * 2**10
"""PNG files up to this size are read to their end, and their checksums compared."""

_BATCH_IMAGES = 64
_BATCH_BYTES = 4 * 2**20
_HELD_BYTES = 64 * 2**20
_THREADED_BYTES = 2**20
_MAX_REMEMBERED = 64
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_BYTES = 12
"""Of a chunk without its content: length, type and checksum."""

_END_BYTES = 12
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB\x60\x82", "GIF": b";"}
"""How whole files end; other formats have no such mark."""


@dataclass(frozen=True)
class ImageFacts:
    """What an image is, as it is stored.

    Attributes:
        origin: What to call it.
        width: In pixels; 0 where it cannot be read.
        height: In pixels; 0 where it cannot be read.
        mode: Pillow's name of the kind of its pixels (L is grey); empty where it cannot be read.
        problem: Why it cannot be read, or None.
        is_away: Whether it was the system that could not read it just now, which says nothing about the image.
    """

    origin: str
    width: int = 0
    height: int = 0
    mode: str = ""
    problem: str | None = None
    is_away: bool = False


@dataclass(frozen=True)
class Examination:
    """What was found in the images of a data set.

    Attributes:
        num_examined: How many were looked at: all of them, unless the time was over.
        num_decoded: How many of those were meant to be decoded in full.
        sizes: How many of them have which width and height.
        modes: How many are of which kind (Pillow's modes; ``L`` is grey).
        num_broken: How many cannot be read.
        broken: The first of these, up to ``MAX_BROKEN``, each with its problem.
    """

    num_examined: int
    num_decoded: int
    sizes: Mapping[tuple[int, int], int]
    modes: Mapping[str, int]
    num_broken: int
    broken: tuple[ImageFacts, ...]


def examine_image(encoded: Encoded, *, in_full: bool = True) -> ImageFacts:
    """Say what an image is or what is wrong with it.

    Args:
        encoded: The image.
        in_full: Whether it is decoded whatever its header and its end look like.
    """
    payload, origin = encoded
    try:
        with (
            naming_damage(origin),
            BytesIO(payload) if isinstance(payload, bytes) else payload.open("rb") as file,
            Image.open(file) as image,
        ):
            check_pixels(image, origin)
            facts = ImageFacts(origin, image.width, image.height, image.mode)
            looks_whole = not in_full and _looks_whole(image, file)
        if not looks_whole:
            decode_image(encoded, _RESOLUTION)
        return facts
    except DataSetError as error:
        return ImageFacts(origin, problem=str(error))
    except OSError as error:
        return ImageFacts(origin, problem=str(error), is_away=True)


def examine(source: LocalSource, num_decoded: int | None = None) -> Examination:
    """Look at every image of a data set; what was found is remembered until its files change.

    Several callers at once wait for one of them. A few hundred images, or some 64 MiB, are held at a time.

    Args:
        source: The images.
        num_decoded: How many are decoded in full, evenly spread; None: all of a small data set, else 512.

    Raises:
        DataSetError: If the file that holds the images is damaged.
    """
    if num_decoded is None:
        num_decoded = _num_decoded(source)
    key = (source.fingerprint, num_decoded)
    mine: Future[Examination] = Future()
    with _remembered_lock:
        known = _remembered.setdefault(key, mine)
        if len(_remembered) > _MAX_REMEMBERED:
            _remembered.pop(next(iter(_remembered)))
    if known is not mine:
        return known.result()
    is_lasting = False
    try:
        found = _examine(source, num_decoded)
        is_lasting = not any(facts.is_away for facts in found.broken)
        mine.set_result(found)
    # whatever it is, it must reach those who wait
    except BaseException as error:
        mine.set_exception(error)
        raise
    finally:
        if not is_lasting:
            with _remembered_lock:
                _remembered.pop(key, None)
        # they hold the error, which holds this frame, which would hold them, and all that was read
        del mine, known
    return found


_remembered: dict[tuple[Fingerprint, int], Future[Examination]] = {}
_remembered_lock = threading.Lock()


def _num_decoded(source: LocalSource) -> int:
    num_images = len(source.labels_N)
    is_small = source.num_bytes <= _FULL_BYTES and num_images <= _FULL_IMAGES
    return num_images if is_small else _SAMPLE_IMAGES


def _examine(source: LocalSource, num_decoded: int) -> Examination:
    num_images = len(source.labels_N)
    if isinstance(source, ArraySource):
        # raw pixels of one size: there is nothing to decode, and damage shows in the whole file's checksum
        source.check()
        is_rgb = len(source.shape) == 4 and source.shape[3] == 3
        size, mode = (source.shape[2], source.shape[1]), "RGB" if is_rgb else "L"
        return Examination(num_images, num_images, {size: num_images}, {mode: num_images}, 0, ())
    in_full_N = np.zeros(num_images, dtype=np.bool_)
    in_full_N[np.linspace(0, num_images - 1, min(num_decoded, num_images)).astype(np.int64)] = True
    images = zip(source.encoded(np.arange(num_images)), in_full_N.tolist(), strict=True)
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    broken: list[ImageFacts] = []
    num_examined = num_broken = 0
    for facts in _all_facts(images):
        num_examined += 1
        if facts.problem is None:
            sizes[facts.width, facts.height] += 1
            modes[facts.mode] += 1
            continue
        num_broken += 1
        if num_broken <= MAX_BROKEN:
            broken.append(facts)
    return Examination(num_examined, int(in_full_N[:num_examined].sum()), sizes, modes, num_broken, tuple(broken))


@dataclass
class _Batch:
    """Enough images for a thread to be worth it, and few bytes; each with whether it is decoded in full."""

    images: list[tuple[Encoded, bool]] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, encoded: Encoded, in_full: bool) -> bool:
        """Add an image; returns whether the batch is large enough now."""
        self.images.append((encoded, in_full))
        self.num_bytes += len(encoded[0]) if isinstance(encoded[0], bytes) else 0
        return len(self.images) >= _BATCH_IMAGES or self.num_bytes >= _BATCH_BYTES

    def begin(self, pool: ThreadPoolExecutor) -> Future[list[ImageFacts]]:
        """Examine them: small ones here, where it is faster than threads hand the interpreter lock around."""
        if self.num_bytes >= _THREADED_BYTES or not isinstance(self.images[0][0][0], bytes):
            return pool.submit(self._facts)
        done: Future[list[ImageFacts]] = Future()
        done.set_result(self._facts())
        return done

    def _facts(self) -> list[ImageFacts]:
        return [examine_image(encoded, in_full=in_full) for encoded, in_full in self.images]


def _all_facts(images: Iterable[tuple[Encoded, bool]]) -> Iterator[ImageFacts]:
    """The facts of the images in order, found out by a few threads, until the time is over."""
    end_s = time.monotonic() + TIME_LIMIT_S
    threads = min(8, os.cpu_count() or 1)
    pending: deque[tuple[Future[list[ImageFacts]], int]] = deque()
    held = 0
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(images):
            pending.append((batch.begin(pool), batch.num_bytes))
            held += batch.num_bytes
            while len(pending) > 2 * threads or held >= _HELD_BYTES:
                future, num_bytes = pending.popleft()
                held -= num_bytes
                yield from future.result()
            if time.monotonic() > end_s:
                break
        for future, _ in pending:
            yield from future.result()


def _batches(images: Iterable[tuple[Encoded, bool]]) -> Iterator[_Batch]:
    batch = _Batch()
    for encoded, in_full in images:
        if batch.add(encoded, in_full):
            yield batch
            batch = _Batch()
    if batch.images:
        yield batch


def _looks_whole(image: Image.Image, file: BinaryIO) -> bool:
    """Whether an opened image ends as its format does; False where only decoding can tell."""
    end = _ENDS.get(image.format or "")
    if end is None or image.mode[0] in "IF":
        # deep grey values must also lie in a range
        return False
    if image.format in ("JPEG", "MPO"):
        # raises if the orientation cannot be read
        image.getexif().get(EXIF_ORIENTATION)
    num_bytes = file.seek(0, os.SEEK_END)
    if image.format == "PNG" and num_bytes <= _CHECKSUM_BYTES:
        file.seek(0)
        return _checksums_hold(memoryview(file.read()))
    file.seek(max(0, num_bytes - _END_BYTES))
    return file.read().endswith(end)


def _checksums_hold(png: memoryview) -> bool:
    """Whether the chunks of a PNG follow one another up to its end, each with its checksum."""
    at = _PNG_SIGNATURE_BYTES
    while at + _PNG_CHUNK_BYTES <= len(png):
        content_end = at + 8 + int.from_bytes(png[at : at + 4])
        if zlib.crc32(png[at + 4 : content_end]) != int.from_bytes(png[content_end : content_end + 4]):
            return False
        at = content_end + 4
    return at == len(png) and png[-_END_BYTES:] == _ENDS["PNG"]
