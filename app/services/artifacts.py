"""Files that workers left under the artifact URL, as streams."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Artifact:
    """A file that is there.

    Attributes:
        num_bytes: Its size.
        path: Its place in the file system.
        file_system: Where it lies.
    """

    num_bytes: int
    path: str
    file_system: Any

    def chunks(self) -> Iterator[bytes]:
        """Yield the content piece by piece."""
        with self.file_system.open(self.path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def find(artifact_url: str, job_id: str, name: str) -> Artifact | None:
    """Return a file of a job; None where there is none."""
    file_system, root = fsspec.core.url_to_fs(artifact_url)
    path = f"{root.rstrip('/')}/{job_id}/{name}"
    file_system.invalidate_cache(path.rsplit("/", 1)[0])
    try:
        return Artifact(int(file_system.size(path)), path, file_system)
    except FileNotFoundError:
        return None
