"""Images of data sets on the Hugging Face hub, read by workers (the API has no ``datasets``)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from app.domain.data_sets import DataSetError, is_hub_data_set
from app.domain.image_archives import image_bytes
from app.domain.image_sources import Fingerprint, Int64Array, OnProgress, dense_labels
from app.domain.images import Encoded, UInt8Array, decode_images
from worker.nas.child_call import call_in_child

_BATCH_ROWS = 256


class HubSource:
    """The rows of a Hugging Face data set that has an image and a label column."""

    def __init__(self, rows: datasets.Dataset, name: str) -> None:
        """Read the labels.

        Raises:
            DataSetError: If there is no image column, or no label column, or a label is not usable.
        """
        image, label = _columns(rows.features, name)
        feature = rows.features[label]
        names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        values = np.asarray(rows.with_format("numpy")[label])
        self.labels_N, self.class_names = dense_labels(values, names, f"the labels of {name}")
        # Undecoded: Pillow's work is done by our own reader, with its errors and its conversions.
        self._images = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        self._column, self._name = image, name
        self.num_bytes = int(rows.data.nbytes)
        self.fingerprint: Fingerprint = (name, rows._fingerprint)

    def decode(self, index_N: Int64Array, resolution: int, on_progress: OnProgress | None = None) -> UInt8Array:
        """See :class:`~app.domain.image_sources.ImageSource`."""
        return decode_images(self._chosen(index_N), len(index_N), resolution, on_progress)

    def _chosen(self, index_N: Int64Array) -> Iterator[Encoded]:
        for first in range(0, len(index_N), _BATCH_ROWS):
            rows = index_N[first : first + _BATCH_ROWS]
            for row, cell in zip(rows, self._images[rows.tolist()][self._column], strict=True):
                origin = f"row {row} of {self._name}"
                yield _payload(cell, origin), origin


def open_hub_source(name: str, on_wait: Callable[[], None] = lambda: None) -> HubSource:
    """Download (or find in the cache) the training split of a hub data set. Its own code is never run.

    Args:
        name: ``hub:OWNER/NAME``.
        on_wait: Called about twice a second during the download; may raise to stop it.

    Raises:
        DataSetError: If the name is none, or the hub cannot be reached or has no such data set.
    """
    if not is_hub_data_set(name):
        raise DataSetError(f"{name!r} names no hub data set; write hub:OWNER/NAME")
    repository = name.removeprefix("hub:")
    if Path(repository).exists():
        # load_dataset prefers a folder of that name to the hub; a request must not name folders of the worker.
        raise DataSetError(f"{name!r} is also a folder of the worker's working directory; start the worker elsewhere")
    return HubSource(call_in_child(on_wait, download, name, repository), name)


def download(name: str, repository: str) -> datasets.Dataset:
    """Return the training split of a repository on the hub; its rows are in files of the hub's cache.

    Raises:
        DataSetError: If the hub cannot be reached or has no such data set.
    """
    try:
        return datasets.load_dataset(repository, split="train")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataSetError(f"cannot read {name!r} from the Hugging Face hub: {error}") from error


def _payload(cell: Any, origin: str) -> bytes | Path:
    """Image folders on the hub are downloaded as files: then the cell names one, in the hub's cache."""
    if isinstance(cell, dict) and not cell.get("bytes") and cell.get("path"):
        return Path(cell["path"])
    return image_bytes(cell, origin)


def _columns(features: datasets.Features, name: str) -> tuple[str, str]:
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [column for column in ("label", "labels") if column in features]
    if not images or not labels:
        raise DataSetError(f"{name} has the columns {', '.join(features)}; it needs one of images and one of labels")
    return images[0], labels[0]
