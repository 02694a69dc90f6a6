"""Twelve images of three classes, written in every layout that is read."""

import gzip
import io
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.domain.data_sets import DataSetError, inspect_data_set, load_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2] * 4)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, labels=LABELS, cells=None, names=None, columns=("image", "label"), row_group_size=5):
    cells = cells or [{"bytes": png(PIXELS[i % 12]), "path": None} for i in range(len(labels))]
    table = pa.table({columns[0]: cells, columns[1]: labels})
    if names:
        features = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)


def write_folders(folder):
    for i, label in enumerate(LABELS):
        path = folder / f"class{label}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(PIXELS[i]))


def write_idx(folder, images=PIXELS[:, :, :, 0], labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    labelled = struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.astype(np.uint8).tobytes()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labelled))


def refused(name, root, match):
    """Inspecting and loading both say what is wrong."""
    with pytest.raises(DataSetError, match=match):
        inspect_data_set(name, root)
    with pytest.raises(DataSetError, match=match):
        load_images(name, root, resolution=8, seed=0)
