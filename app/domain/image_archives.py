"""Labelled images inside archive files: parquet (the Hugging Face image layout), npz, and idx (as MNIST ships)."""

import gzip
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.domain.image_sources import ArraySource, Fingerprint, Int64Array, OnProgress, dense_labels, file_fingerprint
from app.domain.images import MAX_ENCODED_BYTES, DataSetError, Encoded, UInt8Array, decode_images
from app.domain.parquet_footer import read_row_groups

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
MAX_ARRAY_BYTES = 16 * 2**30
"""Raw archives above this are refused before they are unpacked."""

MAX_LABEL_LENGTH = 256
"""Bytes of a label that is a text."""

_BATCH_ROWS = 16
"""Cells are unpacked so many at a time: a dictionary's one large image may stand in every row."""

_CHUNK_BYTES = 2**20
_IDX_IMAGES_HEADER_BYTES = 16
_MAX_LABEL_BYTES = 2**20
"""Of the labels of a row group, beside ``MAX_LABEL_LENGTH`` for each row."""


class ParquetSource:
    """Parquet files with an image column (encoded bytes, or a struct with a ``bytes`` field) and a label column."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the labels of some parquet files, taken in order.

        Raises:
            DataSetError: If one is no parquet file, lacks a column, has one of another type, or a label is not usable.
        """
        self._paths = tuple(paths)
        self._num_rows: list[int] = []
        labels, names = [], None
        for path in self._paths:
            with _parquet(path) as file:
                image, label = _columns(file.schema_arrow, path)
                values = _label_values(file, path, label)
                labels.append(values)
                self._num_rows.append(len(values))
                names = names or _class_names(file.schema_arrow, label)
        self.labels_N, self.class_names = dense_labels(np.concatenate(labels), names, f"the labels of {path.name}")
        self.num_bytes = sum(path.stat().st_size for path in self._paths)
        self.fingerprint: Fingerprint = tuple(file_fingerprint(path) for path in self._paths)
        self._image_column = image

    def decode(self, index_N: Int64Array, resolution: int, on_progress: OnProgress | None = None) -> UInt8Array:
        """See :class:`~app.domain.image_sources.ImageSource`."""
        return decode_images(self.encoded(index_N), len(index_N), resolution, on_progress)

    def encoded(self, index_N: Int64Array) -> Iterator[Encoded]:
        """Return the images of an ascending index as they are stored."""
        first = 0
        for path, num_rows in zip(self._paths, self._num_rows, strict=True):
            rows = index_N[(index_N >= first) & (index_N < first + num_rows)] - first
            first += num_rows
            if len(rows):
                with _parquet(path) as file:
                    yield from _encoded_rows(file, path, rows)


def _label_values(file: pq.ParquetFile, path: Path, label: str) -> npt.NDArray[Any]:
    """The label of every row. Texts are read as a dictionary, so that one long text is not copied into all rows."""
    for group in read_row_groups(path):
        num_bytes = sum(one.num_unpacked_bytes for one in group.columns if one.name == label)
        if num_bytes > _MAX_LABEL_BYTES + MAX_LABEL_LENGTH * group.num_rows:
            raise DataSetError(
                f"the labels of {group.num_rows:,} rows of {path.name} take {num_bytes:,} bytes; labels are numbers or "
                f"names of at most {MAX_LABEL_LENGTH} bytes"
            )
    values = file.read(columns=[label]).column(label)
    if values.null_count:
        raise DataSetError(f"{path.name} has {values.null_count} rows without a label; remove them")
    for chunk in values.chunks if pa.types.is_dictionary(values.type) else ():
        longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
        if longest > MAX_LABEL_LENGTH:
            raise DataSetError(
                f"{path.name} has a label of {longest:,} bytes; labels are names of at most {MAX_LABEL_LENGTH}"
            )
    labels: npt.NDArray[Any] = values.to_numpy()
    return labels


def _encoded_rows(file: pq.ParquetFile, path: Path, rows: Int64Array) -> Iterator[Encoded]:
    """The image cells of ascending rows; row groups without one of them are not read."""
    column, _ = _columns(file.schema_arrow, path)
    first = 0
    for group in range(file.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        chosen = rows[(rows >= first) & (rows < first + num_rows)]
        batch_first = first
        first += num_rows
        if not len(chosen):
            continue
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
            inside = chosen[(chosen >= batch_first) & (chosen < batch_first + len(batch))]
            cells, before = batch.column(0), batch_first
            batch_first += len(batch)
            for row in inside.tolist():
                origin = f"row {row} of {path.name}"
                yield image_bytes(cells[row - before].as_py(), origin), origin


def image_bytes(cell: object, origin: str) -> bytes:
    """Return the encoded image of a cell of an image column.

    Raises:
        DataSetError: If it holds none.
    """
    payload = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(payload, bytes) or not payload:
        raise DataSetError(f"{origin} holds no image bytes (files that are only named there are not read)")
    if len(payload) > MAX_ENCODED_BYTES:
        raise DataSetError(f"{origin} holds {len(payload):,} bytes; an image may have {MAX_ENCODED_BYTES:,}")
    return payload


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file, with pyarrow's errors turned into ours."""
    try:
        metadata = pq.read_metadata(path)
        columns = [metadata.schema.column(position).path for position in range(metadata.num_columns)]
        texts = [name for name in LABEL_COLUMNS if name in columns]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataSetError(f"{path.name} is a truncated, damaged or no parquet file ({error})") from error


def _columns(schema: pa.Schema, path: Path) -> tuple[str, str]:
    """Names of the image and the label column."""
    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image is None or label is None:
        raise DataSetError(
            f"{path.name} has the columns {', '.join(schema.names) or '(none)'}; "
            "it needs 'image' (encoded bytes) and 'label'"
        )
    kind = schema.field(image).type
    stored = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(stored) or pa.types.is_large_binary(stored)):
        raise DataSetError(f"the column {image!r} of {path.name} must hold encoded images (bytes), not {kind}")
    kind = schema.field(label).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind)):
        raise DataSetError(f"the column {label!r} of {path.name} must hold integers or texts, not {kind}")
    return image, label


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """The ClassLabel names that Hugging Face ``datasets`` writes into the schema's metadata, if any."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None  # another feature type (a plain integer), or another writer's metadata: the labels stay numbers
    return tuple(map(str, names)) if isinstance(names, list) else None


def npz_source(path: Path) -> ArraySource:
    """Return the images of an npz file: ``images`` uint8 [N, H, W] or [N, H, W, 1 or 3], ``labels`` [N].

    Raises:
        DataSetError: If an array is missing, pickled, of another type or shape, or the file is damaged.
    """
    shape, dtype, _ = _npz_header(path, "images")
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:3]:
        raise DataSetError(
            f"'images' of {path.name} must be uint8 (values 0 to 255) of shape [N, H, W] or [N, H, W, 1 or 3], "
            f"not {dtype} {shape}"
        )
    _npz_header(path, "labels")
    return ArraySource(
        lambda: _npz_array(path, "images"),
        _npz_array(path, "labels"),
        check=lambda: _check_npz(path, "images", math.prod(shape)),
        shape=shape,
        names=None,
        origin=path.name,
        num_bytes=math.prod(shape),
        fingerprint=file_fingerprint(path),
    )


def _npz_header(path: Path, array: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and bytes of an array, without unpacking it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            num_bytes = archive.getinfo(f"{array}.npy").file_size
    except KeyError as error:
        raise DataSetError(f"{path.name} has no array {array!r}; it needs 'images' and 'labels'") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataSetError(f"{path.name} is a truncated or no npz file ({error})") from error
    if dtype.hasobject:
        raise DataSetError(f"{array!r} of {path.name} holds Python objects, which are never loaded; store numbers")
    if max(num_bytes, math.prod(shape) * dtype.itemsize) > MAX_ARRAY_BYTES:
        raise DataSetError(f"{array!r} of {path.name} unpacks to more than {MAX_ARRAY_BYTES >> 30} GiB; use parquet")
    return tuple(shape), dtype, num_bytes


def _npz_array(path: Path, array: str) -> npt.NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: npt.NDArray[Any] = arrays[array]
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataSetError(f"{path.name} is a damaged npz file ({error})") from error
    return values


def _check_npz(path: Path, array: str, num_bytes: int) -> None:
    """Read through an array of bytes: zip archives carry a checksum of each, which is compared at its end."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as file:
            num_read = sum(map(len, iter(lambda: file.read(_CHUNK_BYTES), b"")))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataSetError(f"{path.name} is a damaged npz file ({error}); write it again") from error
    # the array's own header stands before its values
    if num_read <= num_bytes:
        raise DataSetError(f"{array!r} of {path.name} ends before its {num_bytes:,} bytes do; write the file again")


def idx_source(folder: Path, names: Sequence[str] | None) -> ArraySource:
    """Return the training images of a folder with MNIST's four ``*-ubyte.gz`` files.

    Raises:
        DataSetError: If a file is missing, damaged, or not what its header says.
    """
    images, labels = folder / IDX_FILES[0], folder / IDX_FILES[1]
    shape = _idx_shape(images, 3)
    return ArraySource(
        lambda: _idx_array(images, 3),
        _idx_array(labels, 1),
        check=lambda: _check_idx(images, math.prod(shape)),
        shape=shape,
        names=names,
        origin=folder.name,
        num_bytes=math.prod(shape),
        fingerprint=(file_fingerprint(images), file_fingerprint(labels)),
    )


IDX_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


def _idx_header(file: gzip.GzipFile, path: Path, num_axes: int) -> tuple[int, ...]:
    """Big-endian: two zero bytes, 8 for unsigned bytes, the number of axes, then one 32-bit length per axis."""
    header = file.read(4 + 4 * num_axes)
    if header[:4] != bytes((0, 0, 8, num_axes)) or len(header) != 4 + 4 * num_axes:
        raise DataSetError(f"{path.name} is no idx file of unsigned bytes with {num_axes} axes")
    shape = tuple(int(length) for length in np.frombuffer(header[4:], dtype=">u4"))
    if math.prod(shape) > MAX_ARRAY_BYTES or 0 in shape:
        raise DataSetError(f"{path.name} claims the shape {shape}, which is empty or beyond what is read")
    return shape


def _idx_shape(path: Path, num_axes: int) -> tuple[int, ...]:
    try:
        with gzip.open(path) as file:
            return _idx_header(file, path, num_axes)
    except (EOFError, zlib.error, OSError) as error:
        raise DataSetError(f"{path.name} is missing or damaged ({error})") from error


def _check_idx(path: Path, num_bytes: int) -> None:
    """Read through an idx file of images: gzip carries a checksum, which is compared at its end."""
    try:
        with gzip.open(path) as file:
            num_read = sum(map(len, iter(lambda: file.read(_CHUNK_BYTES), b"")))
    except (EOFError, zlib.error, OSError) as error:
        raise DataSetError(f"{path.name} is truncated or damaged ({error}); write it again") from error
    if num_read != num_bytes + _IDX_IMAGES_HEADER_BYTES:
        raise DataSetError(f"{path.name} holds another number of bytes than the {num_bytes:,} of its header's shape")


def _idx_array(path: Path, num_axes: int) -> UInt8Array:
    try:
        with gzip.open(path) as file:
            shape = _idx_header(file, path, num_axes)
            payload = file.read(math.prod(shape) + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise DataSetError(f"{path.name} is missing, truncated or damaged ({error})") from error
    if len(payload) != math.prod(shape):
        raise DataSetError(f"{path.name} holds another number of bytes than its header's {shape}")
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape)
