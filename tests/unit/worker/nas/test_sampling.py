import numpy as np
import pytest
from scipy.stats import chisquare

from app.domain.seeds import generator
from worker.nas.sampling import sample_distinct


@pytest.mark.parametrize(("size", "num"), [(1, 1), (10, 10), (46_656, 2_000), (6**7, 2_000), (6**19, 5_000)])
def test_indices_are_distinct_and_in_range(size, num):
    indices = sample_distinct(size, num, generator(0, 1, "sampling"))
    assert indices.dtype == np.int64
    assert len(set(indices.tolist())) == num
    assert indices.min() >= 0
    assert indices.max() < size


def test_the_same_generator_gives_the_same_sample():
    first, second = (sample_distinct(6**7, 100, generator(7, 1, "sampling")) for _ in range(2))
    assert (first == second).all()
    assert (first != sample_distinct(6**7, 100, generator(7, 2, "sampling"))).any()


def test_every_index_is_equally_likely_at_every_position():
    draws = np.array([sample_distinct(6, 3, generator(seed, None, "test")) for seed in range(3_000)])
    for position in range(3):
        assert chisquare(np.bincount(draws[:, position], minlength=6)).pvalue > 1e-4
    subsets = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)[1]
    assert len(subsets) == 20
    assert chisquare(subsets).pvalue > 1e-4


@pytest.mark.parametrize(
    ("size", "num", "says"), [(5, 6, "at most 5"), (5, 0, "at least 1"), (2**63, 10, "at most 9,223")]
)
def test_what_cannot_be_sampled_is_refused(size, num, says):
    with pytest.raises(ValueError, match=says):
        sample_distinct(size, num, generator(0, None, "test"))
