import pytest
import torch

from app.domain.search_space import preset
from worker.nas.evaluation_memory import plan_memory

CPU = torch.device("cpu")
SPACE = preset("fairnas")


def plan(**changes):
    keywords = {"resolution": 32, "num_calibration": 100, "device": CPU, "bytes_per_value": 4}
    return plan_memory(SPACE, **(keywords | changes))


def test_the_batch_follows_the_budget():
    small, large = plan(memory_bytes=2**26), plan(memory_bytes=2**40)
    assert 1 <= small.batch_size < large.batch_size
    assert small.inner_bytes < large.inner_bytes
    assert plan(memory_bytes=2**26) == small


def test_larger_images_come_in_smaller_batches():
    assert plan(resolution=224, memory_bytes=2**31).batch_size < plan(memory_bytes=2**31).batch_size


def test_by_default_the_budget_is_a_part_of_the_whole_memory():
    assert plan() == plan()
    assert plan().batch_size >= 1


def test_a_calibration_set_that_does_not_fit_is_refused_with_the_size_that_would():
    with pytest.raises(ValueError, match=r"use at most (\d+) calibration images") as caught:
        plan(num_calibration=10_000, resolution=224, memory_bytes=2**30)
    allowed = int(str(caught.value).split("use at most ")[1].split()[0])
    plan(num_calibration=allowed, resolution=224, memory_bytes=2**30)
