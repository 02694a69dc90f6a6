"""The Gaussian process: its tables against sums over pairs, left-out predictions against refits, and its noise."""

from typing import Any

import numpy as np
import pytest
import torch

from app.domain.hamming_graph import HammingGraph
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas import product_kernel, product_process
from worker.nas.product_process import fit_process, label_noise

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, (0, 1, 2, 3, 4))
FEATURES = SUBSPACE.factor_features()
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)


def pairs(num: int, noise: float, seed: int = 0) -> tuple[Any, Any]:
    """Choices, and targets with an additive part and an interaction of two cells."""
    rng = np.random.default_rng(seed)
    choices = GRAPH.choices(np.sort(rng.permutation(GRAPH.num_nodes)[:num]))
    target = 0.5 * (choices - 1).sum(1) + 0.5 * (choices[:, 0] - 1) * (choices[:, 3] - 1)
    return choices, target + noise * rng.normal(size=num)


def posterior(choices: Any, target: Any) -> Any:
    """The process with strengths that are the same whatever the pairs."""
    factors = product_kernel.Factors.of(FEATURES)
    generator = torch.Generator().manual_seed(0)
    parameter = 0.3 * torch.randn(2 * 5 + product_kernel.NUM_COMMON, generator=generator, dtype=torch.float64) - 1
    fit = product_process._posterior(parameter, factors, choices, target, np.arange(len(target)), None)
    return fit, parameter, factors


def test_tables_are_the_sums_over_pairs() -> None:
    choices, target = pairs(40, 0.1)
    fit, parameter, factors = posterior(choices, target)
    everything = GRAPH.choices(np.arange(GRAPH.num_nodes))
    strengths = product_kernel.Strengths.of(parameter)
    parts = product_kernel.covariances(strengths, factors, np.concatenate([choices, everything]))
    noisy = product_kernel.noisy(parts[0][:40, :40] + parts[1][:40, :40], strengths.noise)
    weights = torch.linalg.solve(noisy, torch.as_tensor(target))
    expected = [(part[40:, :40] @ weights).numpy() for part in parts]
    assert fit.model.additive.of(everything) == pytest.approx(expected[0], abs=1e-9)
    assert fit.model.predict_interactions(everything) == pytest.approx(expected[1], abs=1e-9)


def test_some_rows_at_a_time_give_the_same_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    choices, target = pairs(60, 0.1)
    whole, parameter, factors = posterior(choices, target)
    monkeypatch.setattr(product_process, "_ROWS_PER_STEP", 7)
    steps: list[None] = []
    fit = product_process._posterior(parameter, factors, choices, target, np.arange(60), lambda: steps.append(None))
    assert len(steps) == 2 * 9
    for part, expected in (
        (fit.left_out_additive_N, whole.left_out_additive_N),
        (fit.left_out_interaction_N, whole.left_out_interaction_N),
        (fit.model.additive.of(choices), whole.model.additive.of(choices)),
    ):
        assert part == pytest.approx(expected, abs=1e-9)


def test_more_pairs_than_can_be_used_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    choices, target = pairs(60, 0.1)
    assert fit_process(FEATURES, choices, target, np.random.default_rng(0)).num_pairs == 60
    monkeypatch.setattr(product_process, "_MAX_PAIRS", 40)
    fit = fit_process(FEATURES, choices, target, np.random.default_rng(0))
    assert fit.num_pairs == 40
    assert len(fit.left_out_additive_N) == 60


def test_left_out_predictions_are_those_of_refits() -> None:
    choices, target = pairs(30, 0.1)
    fit, _, _ = posterior(choices, target)
    for left in (0, 7, 29):
        others = np.delete(np.arange(30), left)
        refit, _, _ = posterior(choices[others], target[others])
        assert fit.left_out_additive_N[left] == pytest.approx(refit.model.additive.of(choices[[left]])[0], abs=1e-7)
        assert fit.left_out_interaction_N[left] == pytest.approx(
            refit.model.predict_interactions(choices[[left]])[0], abs=1e-7
        )


def test_left_out_errors_are_those_of_new_pairs_where_every_pair_tells_much() -> None:
    signed = GRAPH.choices(np.arange(GRAPH.num_nodes)) - 1
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        strength = np.triu(0.6 * rng.normal(size=(5, 5)), k=1)
        target = 0.5 * signed.sum(1) + np.einsum("ni,ij,nj->n", signed, strength, signed)
        target = (target - target.mean()) / target.std()
        fitted, new = np.split(rng.permutation(GRAPH.num_nodes), [90])
        fit = fit_process(FEATURES, GRAPH.choices(fitted), target[fitted], np.random.default_rng(0))
        predicted = fit.model.additive.of(GRAPH.choices(new)) + fit.model.predict_interactions(GRAPH.choices(new))
        left_out = fit.left_out_additive_N + fit.left_out_interaction_N - target[fitted]
        ratios.append(float(np.sqrt(np.mean(left_out**2) / np.mean((predicted - target[new]) ** 2))))
    # tables without a quarter of the pairs made it 2 to 6 times
    assert 0.7 < np.median(ratios) < 2


def test_an_interaction_is_found_where_labels_are_clean() -> None:
    choices, target = pairs(120, 0.02)
    fit = fit_process(FEATURES, choices, target, np.random.default_rng(0))
    everything, truth = pairs(GRAPH.num_nodes, 0.0)
    additive = fit.model.additive.of(everything)
    assert np.abs(additive + fit.model.predict_interactions(everything) - truth).mean() < 0.05
    assert np.abs(additive - truth).mean() > 0.15


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_the_noise_is_estimated(noise: float) -> None:
    choices, target = pairs(200, noise)
    assert label_noise(FEATURES, choices, target, np.random.default_rng(0)) == pytest.approx(noise, rel=0.2)
