"""The kernels of the Gaussian process: against sums over pairs and triples of factors, and tuned to what is there."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from app.domain.hamming_graph import HammingGraph
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from worker.nas.product_kernel import (
    JITTER,
    NUM_COMMON,
    Factors,
    Strengths,
    covariances,
    noisy,
    one_thread,
    tune_strengths,
)

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")
SUBSPACE = Subspace(MACRO, (0,) * 8, (0, 1, 2, 3, 4))
FEATURES = SUBSPACE.factor_features()
GRAPH = HammingGraph.assigned(SUBSPACE.factor_sizes)


def some_choices(num: int, seed: int = 0) -> Any:
    return GRAPH.choices(np.sort(np.random.default_rng(seed).permutation(GRAPH.num_nodes)[:num]))


def some_strengths(seed: int = 0) -> Strengths:
    generator = torch.Generator().manual_seed(seed)
    return Strengths.of(0.3 * torch.randn(2 * 5 + NUM_COMMON, generator=generator, dtype=torch.float64) - 1)


def test_a_kernel_has_unit_variance_and_nothing_in_common_with_the_constant() -> None:
    """So that the constant, effects and interactions do not compete for the same pairs."""
    factors = Factors.of(Subspace(FAIRNAS, (0,) * 19, (0, 1, 5)).factor_features())
    for kernel in factors.kernels(torch.tensor(0.7, dtype=torch.float64)):
        assert kernel.diagonal().mean().item() == pytest.approx(1.0)
        assert kernel.sum(0).abs().max().item() < 1e-12
        assert torch.linalg.eigvalsh(kernel).min().item() > -1e-12


def test_choices_with_more_bits_in_common_are_more_alike() -> None:
    kernel = Factors.of(FEATURES).kernels(torch.tensor(0.7, dtype=torch.float64))[0]
    distance = Factors.of(FEATURES).distances[0]
    off_diagonal = [(distance[i, j].item(), kernel[i, j].item()) for i, j in itertools.combinations(range(3), 2)]
    nearest, farthest = min(off_diagonal), max(off_diagonal)
    assert nearest[0] < farthest[0]
    assert nearest[1] > farthest[1]


def test_covariances_are_sums_over_single_factors_pairs_and_triples() -> None:
    """Newton's identities, and the effects that factors with the same choices share, against the plain sums."""
    strengths, factors, choices = some_strengths(), Factors.of(FEATURES), some_choices(12)
    assert factors.alike == ((0, 1, 2, 3, 4),)
    additive, interactions = covariances(strengths, factors, choices)
    kernels = factors.kernels(strengths.decay)
    own, common = strengths.factors_F, strengths.common
    for i, j in itertools.product(range(12), repeat=2):
        units = [kernels[f][choices[i, f], choices[j, f]] for f in range(5)]
        effects = sum((1 - common) * own[f] * units[f] for f in range(5))
        shared = sum(
            (own[f] * own[g]).sqrt() * kernels[0][choices[i, f], choices[j, g]]
            for f, g in itertools.product(range(5), repeat=2)
        )
        assert additive[i, j].item() == pytest.approx(float(1 + effects + common * shared))
        parts = [strengths.interacting_F[f] * units[f] for f in range(5)]
        pairwise = sum(a * b for a, b in itertools.combinations(parts, 2))
        triple = sum(a * b * c for a, b, c in itertools.combinations(parts, 3))
        expected = strengths.pairwise * pairwise + strengths.triple * triple
        assert interactions[i, j].item() == pytest.approx(float(expected), abs=1e-12)


def test_only_factors_with_the_same_choices_share_effects() -> None:
    """A search's round may leave a cell few choices."""
    features = Subspace.following(MACRO, [(0,) * 8, (1, 1, 0, 0, 0, 0, 0, 0)], (2, 3)).factor_features()
    groups = Factors.of(features).alike
    sizes = features.factor_sizes
    assert groups
    assert all(len({sizes[factor] for factor in group}) == 1 for group in groups)
    assert len({factor for group in groups for factor in group}) < len(sizes)


def test_tuning_finds_the_factor_that_matters_and_the_noise() -> None:
    choices = some_choices(150)
    target = 1.2 * (choices[:, 2] - 1.0) + 0.2 * np.random.default_rng(1).normal(size=150)
    found = Strengths.of(tune_strengths(Factors.of(FEATURES), choices, target)[0])
    assert found.factors_F.argmax().item() == 2
    assert found.noise.sqrt().item() == pytest.approx(0.2, rel=0.3)


def test_tuning_goes_on_from_where_it_was() -> None:
    """Of one step it may move little: from what was found before it ends where it began."""
    choices, factors = some_choices(60), Factors.of(FEATURES)
    target = (choices[:, 0] - 1.0) + 0.3 * (choices[:, 1] - 1.0)
    found, _ = tune_strengths(factors, choices, target, steps=200)
    again, _ = tune_strengths(factors, choices, target, start_P=found, steps=1)
    fresh, _ = tune_strengths(factors, choices, target, steps=1)
    assert (again - found).abs().max() < 0.1 < (fresh - found).abs().max()


def test_tuning_can_be_cancelled() -> None:
    calls = []

    def cancel() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_strengths(Factors.of(FEATURES), some_choices(20), np.arange(20) / 10.0, on_step=cancel)
    assert len(calls) == 3


def test_one_thread_is_given_back_also_after_an_error() -> None:
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise KeyError

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_strengths_of_any_size_leave_a_covariance_that_can_be_factored() -> None:
    """The tuning may try them; by rounding alone, the smallest eigenvalues of large covariances are below zero."""
    choices = some_choices(200)
    factors, rng = Factors.of(FEATURES), np.random.default_rng(0)
    failed_without = 0
    for _ in range(60):
        parameter = torch.tensor(rng.choice([-11.0, -2.0, 2.0, 7.0], 2 * 5 + NUM_COMMON))
        strengths = Strengths.of(parameter)
        covariance = sum(covariances(strengths, factors, choices), torch.zeros(()))
        torch.linalg.cholesky(noisy(covariance, strengths.noise))
        plain = covariance + (strengths.noise + JITTER) * torch.eye(200)
        failed_without += int(torch.linalg.cholesky_ex(plain).info > 0)
    assert failed_without
