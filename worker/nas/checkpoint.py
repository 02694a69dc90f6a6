"""Weights on disk or in an object store: safetensors through fsspec, written whole or not at all.

Nothing is unpickled. Every file carries a digest of its own tensors, so that a torn, truncated or foreign file is an
error that says so and never a network with wrong weights.
"""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from app.domain.tensor_bytes import header_metadata

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SUFFIX = ".safetensors"
_DIGEST_KEY = "nasatlas_digest"
_TEMPORARY_PREFIX = ".writing-"


class CheckpointError(ValueError):
    """A checkpoint that is missing, truncated, foreign, or holds weights that are not finite."""


class CheckpointMissingError(CheckpointError):
    """A checkpoint that is not there, or no longer: a worker that was fenced off may still delete it."""


class Checkpoint(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
        tensors: The tensors by name, on the CPU.
        metadata: The texts saved beside them.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class CheckpointStore:
    """The checkpoints of one search, under ``<artifact_url>/<search_id>/``, or of a part of it in a folder below.

    Writes are atomic: a reader sees the old file or the new one. Two writers of the same name leave one of the two.
    """

    def __init__(self, artifact_url: str, search_id: str, folder: str | None = None) -> None:
        """Open the store; nothing is created before the first write.

        Args:
            artifact_url: A directory, or a URL that fsspec knows (``s3://bucket/prefix``).
            search_id: The search whose checkpoints these are.
            folder: Of one of its trainings of single architectures.

        Raises:
            CheckpointError: If the URL's protocol is unknown or its driver is not installed, or the id is no safe name.
        """
        for name in (search_id, folder or "none"):
            if not _NAME.fullmatch(name):
                raise CheckpointError(f"{name!r} is no search id or folder: use letters, digits, '-', '_' and '.'")
        try:
            self._fs, root = fsspec.core.url_to_fs(artifact_url)
        except (ValueError, ImportError) as error:
            raise CheckpointError(f"cannot open the artifact URL {artifact_url!r}: {error}") from error
        self.artifact_url = artifact_url
        self.search_id = search_id
        self._directory = "/".join(filter(None, [root.rstrip("/"), search_id, folder]))

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write tensors and texts under a name, replacing what was there.

        Raises:
            CheckpointError: If a tensor holds NaN or infinity; what was there before stays.
            OSError: If the store cannot be written.
        """
        stored = {key: tensor.detach().to("cpu").contiguous() for key, tensor in tensors.items()}
        _check_finite(stored, name)
        payload = save_safetensors(stored, {**metadata, _DIGEST_KEY: _digest(stored)})
        self._write(self._path(name), payload)

    def save_bytes(self, file_name: str, payload: bytes) -> None:
        """Write a file of another kind beside the checkpoints, whole or not at all, replacing what was there.

        Raises:
            CheckpointError: If the name is none of a file here.
            OSError: If the store cannot be written.
        """
        if not _NAME.fullmatch(file_name):
            raise CheckpointError(f"{file_name!r} is no file name: use letters, digits, '-', '_' and '.'")
        self._write(f"{self._directory}/{file_name}", payload)

    def _write(self, path: str, payload: bytes) -> None:
        if isinstance(self._fs, LocalFileSystem):
            _write_file(Path(path), payload)
        else:
            self._fs.pipe_file(path, payload)

    def load_tensors(self, name: str) -> Checkpoint:
        """Read what was saved under a name.

        Raises:
            CheckpointError: If it is missing, truncated, not ours, damaged, or holds weights that are not finite.
            OSError: If the store cannot be read for another reason (it may be there: try again).
        """
        path = self._path(name)
        try:
            payload = self._fs.cat_file(path)
        except FileNotFoundError as error:
            raise CheckpointMissingError(f"there is no checkpoint {name!r} in {self._directory}") from error
        try:
            tensors = load_safetensors(payload)
            metadata = header_metadata(payload)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"the checkpoint {path} is truncated or no safetensors file ({error})") from error
        digest = metadata.pop(_DIGEST_KEY, None)
        if digest is None:
            raise CheckpointError(f"the checkpoint {path} was not written by NAS Atlas (it carries no digest)")
        if digest != _digest(tensors):
            raise CheckpointError(f"the checkpoint {path} is damaged: its tensors do not match its digest")
        _check_finite(tensors, name)
        return Checkpoint(tensors, metadata)

    def exists(self, name: str) -> bool:
        """Whether something is saved under a name (it may still be damaged)."""
        return bool(self._fs.exists(self._path(name)))

    def names(self) -> tuple[str, ...]:
        """Return the names of what is saved, sorted."""
        self._fs.invalidate_cache(self._directory)
        try:
            entries = self._fs.ls(self._directory, detail=False)
        except FileNotFoundError:
            return ()
        files = [str(entry).rsplit("/", 1)[-1] for entry in entries]
        return tuple(sorted(file.removesuffix(_SUFFIX) for file in files if _is_checkpoint_file(file)))

    def delete(self, name: str) -> None:
        """Remove what is saved under a name, if anything."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def delete_all(self) -> None:
        """Remove everything of this search, leftovers of killed writers included."""
        self._fs.invalidate_cache(self._directory)
        try:
            self._fs.rm(self._directory, recursive=True)
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"{name!r} is no checkpoint name: use letters, digits, '-', '_' and '.'")
        return f"{self._directory}/{name}{_SUFFIX}"


def _is_checkpoint_file(file: str) -> bool:
    return file.endswith(_SUFFIX) and not file.startswith(_TEMPORARY_PREFIX)


def _write_file(path: Path, payload: bytes) -> None:
    """Write beside the target, flush to the disk, then rename: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, suffix=_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        if Path(temporary).read_bytes() != payload:
            # a file system that lost bytes, or somebody who truncated the file: what was saved before stays
            raise OSError(errno.EIO, f"{temporary} does not hold what was written into it")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"the tensor {key!r} of the checkpoint {name!r} holds NaN or infinity")
