"""Which architectures are worth a training: spread over the predictions, unlike each other, and disputed."""

import numpy as np
import pytest

from worker.nas.standalone_choice import choose_standalone

NUM_CHOICES = (3, 3, 3, 3)
CHOICES_NL = np.stack(np.unravel_index(np.arange(81), NUM_CHOICES), axis=1)


def bases(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    safest = rng.normal(size=81)
    return np.stack([safest, safest + 0.3 * rng.normal(size=81)], axis=1)


@pytest.mark.parametrize("num", [1, 5, 27, 80])
def test_one_of_every_stratum_of_the_prediction(num: int) -> None:
    base_NK = bases()
    chosen = choose_standalone(base_NK, CHOICES_NL, NUM_CHOICES, num)
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    assert len(chosen) == num
    rank_N = np.argsort(np.argsort(-base_NK[:, 0]))
    for stratum in np.array_split(np.arange(81), num):
        assert np.isin(rank_N[chosen], stratum).sum() == 1


@pytest.mark.parametrize("num", [81, 100])
def test_all_where_there_are_no_more(num: int) -> None:
    assert choose_standalone(bases(), CHOICES_NL, NUM_CHOICES, num).tolist() == list(range(81))


def test_none() -> None:
    assert choose_standalone(bases(), CHOICES_NL, NUM_CHOICES, 0).tolist() == []
    assert choose_standalone(np.zeros((0, 2)), np.zeros((0, 4), dtype=np.int64), NUM_CHOICES, 3).tolist() == []


def test_where_the_predictors_disagree() -> None:
    base_NK = bases()
    base_NK[:, 1] = base_NK[:, 0]
    disputed = [3, 20, 40, 60, 77]
    base_NK[disputed, 1] += 5.0
    chosen = choose_standalone(base_NK, CHOICES_NL, NUM_CHOICES, 1)
    assert set(chosen.tolist()) <= set(disputed)


def test_all_choices_of_all_cells_are_seen() -> None:
    """Predictors agree and say the same of all: what is left is to be unlike."""
    chosen = choose_standalone(np.full((81, 2), 0.5), CHOICES_NL, NUM_CHOICES, 9)
    for cell in range(4):
        assert len(set(CHOICES_NL[chosen, cell].tolist())) == 3


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="give one each"):
        choose_standalone(bases()[:5], CHOICES_NL, NUM_CHOICES, 2)
