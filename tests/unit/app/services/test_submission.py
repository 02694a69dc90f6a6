"""What a request asks of a data set, before a worker reads it."""

from pathlib import Path

import numpy as np

from app.domain.data_sets import inspect_data_set, load_images
from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.services.submission import batch_misfits, misfits, num_train_images

COUNTS = (4, 200, 6, 300, 8, 250)
SPACE = preset("nas-bench-macro")


def config_of(seed: int, **overrides: object):
    return from_preset("quick", {"num_images": None, "num_classes": 2, "seed": seed, **overrides}).resolved(SPACE)


def test_images_are_counted_in_the_classes_that_the_seed_chooses(tmp_path: Path) -> None:
    """Of very unequal classes the smallest say nothing about a search that takes others."""
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    np.savez(tmp_path / "unequal.npz", images=np.zeros((len(labels), 4, 4), np.uint8), labels=labels)
    info = inspect_data_set("unequal", tmp_path)
    refused = set()
    for seed in range(20):
        loaded = load_images("unequal", tmp_path, resolution=4, num_classes=2, seed=seed)
        config = config_of(seed, batch_size=64)
        counted = num_train_images(config, info)
        assert abs(counted - 0.9 * len(loaded.labels_N)) <= 2
        assert misfits(config, info) == batch_misfits(64, counted)
        refused.add(bool(misfits(config, info)))
    assert refused == {True, False}
