"""An archive that somebody uploads as a data set: checked before a byte of it is unpacked, then unpacked.

It is a zip archive of what may lie under the data root: class folders of images, ``train*.parquet``, one parquet or npz
file; or an npz file itself, which is a zip archive as well.
"""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.domain.images import IMAGE_SUFFIXES, DataSetError
from app.domain.parquet_pages import check_pages

MAX_NPZ_BYTES = 512 * 2**20
"""An uploaded npz is unpacked in memory, by the API too."""

MAX_PARQUET_ROWS = 2_000_000
"""Labels that are all alike take no room in a parquet file, but eight bytes each in memory."""

_ENTRY_SIGNATURE = b"PK\x01\x02"
_ARCHIVE_SUFFIXES = frozenset({".npz", ".parquet"})
_NPZ_ENTRIES = frozenset({"images.npy", "labels.npy"})
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1
_ALWAYS_ALLOWED_BYTES = 2**20
_MAX_DEPTH = 12
_MAX_NAME_BYTES = 255
_CHUNK_BYTES = 2**20
_NUM_NAMED = 20


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    Attributes:
        max_unpacked_bytes: Size of all its files, unpacked.
        max_entries: Files and folders.
        max_ratio: How many times larger than its packed form a file above 1 MiB may be; images hardly shrink.
    """

    max_unpacked_bytes: int
    max_entries: int = 200_000
    max_ratio: int = 200


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes:
        num_files: Files that were unpacked.
        num_bytes: Their size.
        num_ignored: Files that were left out: hidden ones, and those that are no images.
        ignored: The names of some of them.
    """

    num_files: int
    num_bytes: int
    num_ignored: int = 0
    ignored: tuple[str, ...] = ()


def unpack_data_set(archive: Path, target: Path, name: str, limits: ArchiveLimits) -> Unpacked:
    """Unpack an archive as the data set ``name`` of a data root of its own.

    Args:
        archive: The file; an npz is moved instead of unpacked.
        target: An empty folder, which becomes the data root.
        name: The data set's name.
        limits: What the archive may hold.

    Raises:
        DataSetError: If the file is no archive, is damaged, or holds what may not be; then ``target`` is to be removed.
        OSError: If it cannot be written.
    """
    _check_num_entries(archive, limits.max_entries)
    with _opened(archive) as opened:
        entries = opened.infolist()
        if {entry.orig_filename for entry in entries} >= _NPZ_ENTRIES:
            return _take_npz(archive, target, name)
        files, ignored = _checked_files(entries, limits)
        if not files:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES | _ARCHIVE_SUFFIXES))
            raise DataSetError(f"the archive holds no image ({kinds}); give one folder of images per class")
        num_bytes = 0
        for path, entry in zip(_without_wrapper(list(files)), files.values(), strict=True):
            num_bytes += _unpack(opened, entry, target / name / path)
    _settle_single_file(target, name)
    return Unpacked(len(files), num_bytes, len(ignored), tuple(ignored[:_NUM_NAMED]))


def _check_num_entries(archive: Path, max_entries: int) -> None:
    """Refuse a directory of millions of entries before ``zipfile`` makes an object of each; its count may be a lie."""
    found, tail = 0, b""
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found += (tail + chunk).count(_ENTRY_SIGNATURE)
            tail = chunk[-(len(_ENTRY_SIGNATURE) - 1) :]
    if found > max_entries:
        raise DataSetError(f"the archive has more than {max_entries:,} entries; put the images into parquet files")


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, OSError) as error:
        raise DataSetError(f"this is no zip archive, or a damaged one ({error})") from error


def _checked_files(
    entries: Sequence[zipfile.ZipInfo], limits: ArchiveLimits
) -> tuple[dict[PurePosixPath, zipfile.ZipInfo], list[str]]:
    """The files to unpack by their paths, and the names of those to leave out. All entries are checked."""
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    ignored: list[str] = []
    seen: set[PurePosixPath] = set()
    num_bytes = 0
    for entry in entries:
        path = _checked_path(entry)
        if entry.is_dir():
            continue
        if path in seen:
            raise DataSetError(f"the archive holds {_shown(entry)} twice")
        seen.add(path)
        _check_size(entry, limits)
        num_bytes += entry.file_size
        if num_bytes > limits.max_unpacked_bytes:
            raise DataSetError(f"the archive unpacks to more than {limits.max_unpacked_bytes:,} bytes")
        if _is_wanted(path):
            files[path] = entry
        else:
            ignored.append(str(path))
    for path in files:
        if (taken := next((parent for parent in path.parents if parent in seen), None)) is not None:
            raise DataSetError(f"{str(taken)[:120]!r} of the archive is a file and a folder")
    return files, ignored


def _checked_path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The path of an entry below the folder that it will be unpacked into.

    Raises:
        DataSetError: If it would lie elsewhere, or is neither a file nor a folder.
    """
    name = entry.orig_filename
    path = PurePosixPath(name)
    if name.startswith("/") or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise DataSetError(f"the archive names {_shown(entry)}, which is no path inside of it; write folder/image.png")
    if not path.parts or any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise DataSetError(f"the archive holds a file whose name cannot be used: {_shown(entry)}")
    if len(path.parts) > _MAX_DEPTH or any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        raise DataSetError(f"{_shown(entry)} is too long a path; use at most {_MAX_DEPTH} folders and shorter names")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataSetError(f"{_shown(entry)} of the archive is a link or a device; put the file itself there")
    if entry.flag_bits & _ENCRYPTED:
        raise DataSetError(f"{_shown(entry)} of the archive is encrypted; pack it without a password")
    if entry.compress_type not in _METHODS:
        raise DataSetError(f"{_shown(entry)} of the archive is packed in a way that is not read; use deflate")
    return path


def _check_size(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    is_large = entry.file_size > _ALWAYS_ALLOWED_BYTES
    if is_large and entry.file_size > limits.max_ratio * max(1, entry.compress_size):
        raise DataSetError(
            f"{_shown(entry)} of the archive unpacks to more than {limits.max_ratio} times its packed size, as no "
            "image does that is worth searching with"
        )


def _shown(entry: zipfile.ZipInfo) -> str:
    return repr(entry.orig_filename[:120])


def _is_wanted(path: PurePosixPath) -> bool:
    """Hidden files, and what archivers add for their own system, are no images."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES | _ARCHIVE_SUFFIXES


def _without_wrapper(paths: list[PurePosixPath]) -> list[PurePosixPath]:
    """Paths without the folders that hold everything: archivers put the packed folder's own name around the classes."""
    while _is_wrapped(paths):
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return paths


def _is_wrapped(paths: list[PurePosixPath]) -> bool:
    outer = {path.parts[0] for path in paths}
    if len(outer) > 1 or outer == {"train"}:
        return False
    # an image needs a folder that names its class, a parquet or npz file does not
    return all(len(path.parts) > (1 if path.suffix.lower() in _ARCHIVE_SUFFIXES else 2) for path in paths)


def _unpack(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> int:
    """Write one file; ``zipfile`` reads no more than the size that was checked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # outside of what is caught below: a full disk is no damaged archive
    with path.open("xb") as file:
        for chunk in _chunks(opened, entry):
            file.write(chunk)
        return file.tell()


def _chunks(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with opened.open(entry) as packed:
            while chunk := packed.read(_CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise DataSetError(f"{_shown(entry)} of the archive is damaged ({error}); pack it again") from error


def _settle_single_file(target: Path, name: str) -> None:
    """A parquet or npz file by itself lies in a data root under the data set's name; check those that were unpacked."""
    folder = target / name
    for file in folder.rglob("*.npz"):
        _check_npz(file)
    _check_parquet(sorted(folder.rglob("*.parquet")))
    files = list(folder.iterdir())
    if len(files) == 1 and files[0].suffix in _ARCHIVE_SUFFIXES:
        files[0].rename(target / f"{name}{files[0].suffix}")
        folder.rmdir()


def _take_npz(archive: Path, target: Path, name: str) -> Unpacked:
    _check_npz(archive)
    taken = target / f"{name}.npz"
    archive.rename(taken)
    return Unpacked(1, taken.stat().st_size)


def _check_npz(path: Path) -> None:
    with _opened(path) as opened:
        if sum(entry.file_size for entry in opened.infolist()) > MAX_NPZ_BYTES:
            raise DataSetError(
                f"the npz file holds more than {MAX_NPZ_BYTES >> 20} MiB of arrays; upload larger sets as images"
            )


def _check_parquet(paths: Sequence[Path]) -> None:
    num_rows = 0
    for path in paths:
        num_rows += check_pages(path)
        if num_rows > MAX_PARQUET_ROWS:
            raise DataSetError(
                f"{path.name} and those before it have {num_rows:,} rows; at most {MAX_PARQUET_ROWS:,} are taken"
            )
