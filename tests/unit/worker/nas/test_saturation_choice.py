"""A ceiling is found where accuracies have one, and only there."""

from typing import Any

import numpy as np
import pytest

from app.domain.hamming_graph import HammingGraph
from app.domain.rank_correlation import kendall_tau
from app.domain.saturation import NOT_SATURATED, Saturation
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.product_kernel import standardised
from worker.nas.product_process import fit_process
from worker.nas.saturation_choice import choose_saturation

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, tuple(range(7)))
FEATURES = SUBSPACE.factor_features()
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)
EVERYTHING = GRAPH.choices(np.arange(GRAPH.num_nodes))
EFFORT = 0.5 + 0.25 * (EVERYTHING * np.linspace(0.5, 1.5, 7)).sum(1)


def labels(accuracy: Any, noise: float, num: int = 200, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    index = rng.permutation(GRAPH.num_nodes)[:num]
    return EVERYTHING[index], accuracy[index] + rng.normal(0, noise, num)


def chosen(accuracy: Any, noise: float, **how: Any) -> Saturation:
    return choose_saturation(FEATURES, *labels(accuracy, noise), np.random.default_rng(0), **how)


def test_efforts_that_add_up_are_found_below_a_ceiling() -> None:
    accuracy = Saturation(0.8).accuracy(EFFORT)
    found = chosen(accuracy, 0.002)
    assert found.ceiling == pytest.approx(0.8, abs=0.03)


def test_the_whole_space_is_ranked_better_from_pairs_around_good_architectures() -> None:
    """Half the cells are searched beside ever better ones, where every choice changes little."""
    accuracy = Saturation(0.8).accuracy(EFFORT + 0.1 * np.random.default_rng(1).normal(size=len(EFFORT)))
    early, late = EVERYTHING[(EVERYTHING[:, 4:] == 0).all(1)], EVERYTHING[(EVERYTHING[:, :4] == 2).all(1)]
    pairs = np.unique(np.concatenate([early, late]), axis=0)
    z = accuracy[GRAPH.index(pairs)]
    saturation = choose_saturation(FEATURES, pairs, z, np.random.default_rng(0))
    assert saturation != NOT_SATURATED
    taus = []
    for target in (z, saturation.effort(z)):
        model = fit_process(FEATURES, pairs, standardised(target), np.random.default_rng(0)).model
        taus.append(kendall_tau(model.additive.of(EVERYTHING), EFFORT))
    assert taus[1] > taus[0] + 0.02


@pytest.mark.parametrize("noise", [0.002, 0.05])
def test_accuracies_that_add_up_have_none(noise: float) -> None:
    assert chosen(0.5 + 0.05 * EFFORT, noise) == NOT_SATURATED


def test_noise_hides_a_ceiling() -> None:
    assert chosen(Saturation(0.8).accuracy(EFFORT), 0.5) == NOT_SATURATED


def test_equal_accuracies_have_none() -> None:
    assert chosen(np.full(GRAPH.num_nodes, 0.5), 0.0) == NOT_SATURATED


def test_a_cancellation_passes_through() -> None:
    def cancel() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        chosen(0.5 + 0.05 * EFFORT, 0.01, on_step=cancel)
