"""The artifacts of whole searches, without torch: their size, and their removal.

They lie where :class:`worker.nas.checkpoint.CheckpointStore` writes them, under ``<artifact_url>/<search_id>/``.
"""

import uuid
from typing import Any

import fsspec


def _directory(artifact_url: str, search_id: uuid.UUID) -> tuple[Any, str]:
    filesystem, root = fsspec.core.url_to_fs(artifact_url)
    directory = f"{root.rstrip('/')}/{search_id}"
    filesystem.invalidate_cache(directory)
    return filesystem, directory


def artifact_bytes(artifact_url: str, search_id: uuid.UUID) -> int:
    """Return the size of all that is stored of a search, in bytes.

    Raises:
        OSError: If the store cannot be read.
    """
    filesystem, directory = _directory(artifact_url, search_id)
    try:
        return int(sum(entry["size"] or 0 for entry in filesystem.find(directory, detail=True).values()))
    except FileNotFoundError:
        return 0


def remove_artifacts(artifact_url: str, search_id: uuid.UUID) -> None:
    """Remove all that is stored of a search, leftovers of killed writers included; nothing there is no error.

    Raises:
        OSError: If it cannot be removed.
    """
    filesystem, directory = _directory(artifact_url, search_id)
    try:
        filesystem.rm(directory, recursive=True)
    except FileNotFoundError:
        return
