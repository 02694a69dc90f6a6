"""What tests of trainings need: a few images, and one thread."""

import pytest
import torch

from worker.nas.data import load_search_data


@pytest.fixture(scope="module")
def data():
    return load_search_data(
        "digits",
        None,
        resolution=8,
        num_classes=None,
        num_images=300,
        validation_fraction=0.1,
        num_calibration_images=32,
        seed=0,
    )


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
