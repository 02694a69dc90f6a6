"""Rows in the Hugging Face layout, without the hub: the same reader, the same errors."""

import io
import time

import datasets
import numpy as np
import pytest
from PIL import Image

from app.domain.data_sets import DataSetError, load_images_of
from worker.nas import hub_images
from worker.nas.child_call import call_in_child
from worker.nas.data import load_search_data
from worker.nas.hub_images import HubSource, open_hub_source

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


def rows(labels=(0, 1) * 5, names=("cat", "dog"), columns=("img", "fine_label")):
    cells = []
    for pixels in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    features = {columns[0]: datasets.Image(), columns[1]: datasets.ClassLabel(names=list(names))}
    return datasets.Dataset.from_dict({columns[0]: cells, columns[1]: list(labels)}, datasets.Features(features))


def load(source, **changes):
    return load_images_of(source, **{"resolution": 8, "num_classes": None, "num_images": None, "seed": 0, **changes})


def test_images_labels_and_names():
    images = load(HubSource(rows(), "hub:a/b"))
    assert np.array_equal(images.images_NHWC, PIXELS)
    assert images.labels_N.tolist() == [0, 1] * 5
    assert images.class_names == ("cat", "dog")
    assert len(load(HubSource(rows(), "hub:a/b"), num_images=5).labels_N) == 5


def test_rows_that_cannot_serve():
    with pytest.raises(DataSetError, match="it needs one of images and one of labels"):
        HubSource(datasets.Dataset.from_dict({"text": ["a"], "label": [1]}), "hub:a/b")
    with pytest.raises(DataSetError, match="contain -1"):
        HubSource(rows(labels=(0, -1) * 5), "hub:a/b")
    broken = rows().cast_column("img", datasets.Image(decode=False))
    broken = broken.map(
        lambda row, index: {"img": {"bytes": b"x" if index == 4 else row["img"]["bytes"]}}, with_indices=True
    )
    with pytest.raises(DataSetError, match="row 4 of hub:a/b is a corrupt"):
        load(HubSource(broken, "hub:a/b"))


def test_folders_of_the_worker_cannot_be_named(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataSetError, match="also a folder"):
        open_hub_source("hub:a/b")


def test_rows_arrive_from_the_process_that_downloads(tmp_path):
    rows().save_to_disk(str(tmp_path))
    found = call_in_child(lambda: None, datasets.load_from_disk, str(tmp_path))
    source = HubSource(found, "hub:a/b")
    assert source.fingerprint == HubSource(datasets.load_from_disk(str(tmp_path)), "hub:a/b").fingerprint
    assert np.array_equal(load(source).images_NHWC, PIXELS)


def test_a_download_reports_and_can_be_stopped(monkeypatch):
    def stop(fraction):
        raise KeyboardInterrupt

    monkeypatch.setattr(hub_images, "download", time.sleep)
    monkeypatch.setattr(
        hub_images, "call_in_child", lambda on_wait, function, *_: call_in_child(on_wait, function, 600)
    )
    with pytest.raises(KeyboardInterrupt):
        load_search_data(
            "hub:owner/large",
            None,
            resolution=8,
            num_classes=None,
            num_images=None,
            validation_fraction=0.1,
            num_calibration_images=10,
            seed=0,
            on_progress=stop,
        )


def test_an_unreachable_hub_is_said_so(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setattr(hub_images, "call_in_child", lambda on_wait, function, *arguments: function(*arguments))
    with pytest.raises(DataSetError, match=r"cannot read 'hub:owner/missing' from the Hugging Face hub: no route"):
        load_search_data(
            "hub:owner/missing",
            None,
            resolution=8,
            num_classes=None,
            num_images=None,
            validation_fraction=0.1,
            num_calibration_images=10,
            seed=0,
        )
