"""The file of a backup: a tar with the database's dump, the artifacts, and at its end a list with everything's digest.

The list is what makes a backup whole: a file that was cut off, or that somebody changed, is refused before anything is
touched. The digests find accidents, not malice: whoever can write a backup can write its list.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from app.embedded.errors import EmbeddedStackError

CONTENTS = "contents.json"
FORMAT = 1
_CHUNK_BYTES = 2**20


class BackupError(EmbeddedStackError):
    """A backup cannot be written, or is none, or is not whole."""


class _Hashed(io.RawIOBase):
    """Reads a file and knows the digest of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        return data

    def digest(self) -> str:
        return self._sha256.hexdigest()


class ArchiveWriter:
    """Adds files to a backup."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        """Write to an open tar file."""
        self._tar = tar
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, file: IO[bytes]) -> None:
        """Add a file that can be seeked, as it is now."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = file.seek(0, os.SEEK_END), 0o600
        file.seek(0)
        hashed = _Hashed(file)
        self._tar.addfile(info, hashed)
        self.files[name] = {"bytes": info.size, "sha256": hashed.digest()}


@contextmanager
def new_archive(path: Path, facts: dict[str, Any]) -> Iterator[ArchiveWriter]:
    """Write a backup: there under its name when it is whole, or not at all; readable by its owner alone.

    Args:
        path: Where; nothing may be there.
        facts: What else the list at its end shall say.

    Raises:
        BackupError: If something is there already.
        OSError: If it cannot be written.
    """
    if path.exists():
        raise BackupError(f"{path} exists already; choose another name, or a directory to put a new file into")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # the keys' hashes are in it
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                writer = ArchiveWriter(tar)
                yield writer
                contents = {"format": FORMAT, **facts, "files": writer.files}
                data = json.dumps(contents, indent=1).encode()
                info = tarfile.TarInfo(CONTENTS)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)


def check_archive(path: Path) -> dict[str, Any]:
    """Read a whole backup and return the list at its end.

    Raises:
        BackupError: If it is none, or not whole, or holds a name that leads out of it.
        OSError: If it cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    contents: dict[str, Any] | None = None
    try:
        for name, file in read_archive(path):
            if name == CONTENTS:
                contents = json.loads(file.read())
            else:
                hashed, num_bytes = _Hashed(file), 0
                while data := hashed.read(_CHUNK_BYTES):
                    num_bytes += len(data)
                found[name] = {"bytes": num_bytes, "sha256": hashed.digest()}
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BackupError(f"{path} is no backup, or not a whole one: {error}") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise BackupError(f"{path} is no whole backup: the list at its end is missing, or of another version")
    if contents.get("files") != found:
        raise BackupError(f"{path} is damaged: what is in it is not what the list at its end says; take another backup")
    return contents


def read_archive(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the files of a backup one after the other, by name.

    Raises:
        tarfile.TarError: If it is no tar file, or cut off.
        BackupError: If something in it is no plain file, or its name leads elsewhere.
    """
    with tarfile.open(path, mode="r:") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            if file is None or not _stays_inside(info.name):
                raise BackupError(f"{path} is no backup: it holds {info.name[:100]!r}")
            yield info.name, file


def _stays_inside(name: str) -> bool:
    place = PurePosixPath(name)
    return not place.is_absolute() and ".." not in place.parts and "\0" not in name
