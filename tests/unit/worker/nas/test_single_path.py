"""What an iteration trains: uniform single paths or strictly fair ones, at which rate, from which weights."""

import numpy as np
import pytest
import torch

from tests.unit.worker.nas.tiny_training import TINY_SPACE
from worker.nas.single_path import SinglePathLoop, fair_paths, initial_supernet, learning_rate_at, sampled_path
from worker.nas.training_config import SupernetTrainingConfig
from worker.nas.training_loop import SingleReplica


def test_fair_paths_hold_every_choice_of_every_cell_once():
    for iteration in range(20):
        paths = fair_paths(TINY_SPACE, 3, 0, iteration)
        assert all(sorted(choices) == list(range(3)) for choices in zip(*paths, strict=True))
        assert paths == fair_paths(TINY_SPACE, 3, 0, iteration)
    assert len({fair_paths(TINY_SPACE, 3, 0, iteration) for iteration in range(20)}) > 10


def test_a_cell_with_fewer_choices_goes_through_them_again():
    space = TINY_SPACE.model_copy(
        update={
            "cells": (
                TINY_SPACE.cells[0].model_copy(update={"choices": TINY_SPACE.cells[0].choices[:2]}),
                *TINY_SPACE.cells[1:],
            )
        }
    )
    first, *_ = zip(*fair_paths(space, 0, 0, 0), strict=True)
    assert len(first) == 3
    assert set(first) == {0, 1}


def test_paths_are_uniform_and_independent():
    paths = np.array([sampled_path(TINY_SPACE, 5, epoch, iteration) for epoch in range(10) for iteration in range(180)])
    counts = np.zeros((3, 3))
    np.add.at(counts, tuple(paths.T), 1)
    expected = len(paths) / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi-square with 8 degrees of freedom, p = 0.001
    assert sampled_path(TINY_SPACE, 5, 1, 2) == sampled_path(TINY_SPACE, 5, 1, 2)
    assert all(0 <= choice < 3 for choice in paths.ravel())


def test_the_cosine_ends_at_zero():
    config = SupernetTrainingConfig(learning_rate=0.18)
    rates = [learning_rate_at(config, step, 100) for step in range(101)]
    assert rates[0] == 0.18
    assert rates[50] == pytest.approx(0.09)
    assert rates[100] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)


def test_a_warm_up_rises_to_the_cosine():
    config = SupernetTrainingConfig(learning_rate=0.1, warmup_fraction=0.1)
    plain = SupernetTrainingConfig(learning_rate=0.1)
    rates = [learning_rate_at(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == [learning_rate_at(plain, step, 100) for step in range(9, 100)]


def loop(data, **values):
    config = SupernetTrainingConfig(epochs=2, batch_size=50, augmentation="none", **values)
    return SinglePathLoop(TINY_SPACE, data, config, seed=3, digest="", replica=SingleReplica())


def test_an_iteration_trains_the_sampled_path_and_nothing_else(data):
    training = loop(data)
    network = training.state.network
    for iteration in range(5):
        parameters, (((path,)),) = training.plan(1, iteration)
        assert path == sampled_path(TINY_SPACE, 3, 1, iteration)
        blocks = [network.block(cell_index, choice) for cell_index, choice in enumerate(path)]
        expected = [p for part in (network.stem, network.head, *blocks) for p in part.parameters()]
        assert {id(p) for p in parameters} == {id(p) for p in expected}
        assert len(parameters) == len(expected)


def test_a_fair_iteration_trains_every_choice_in_as_many_passes(data):
    training = loop(data, fairness="strict")
    parameters, passes = training.plan(0, 4)
    assert passes == tuple((path,) for path in fair_paths(TINY_SPACE, 3, 0, 4))
    assert {id(p) for p in parameters} == {id(p) for p in training.state.network.parameters()}


def test_the_seed_and_the_configuration_decide_the_first_weights():
    config = SupernetTrainingConfig(residual_scale=0.25)
    first, again, other = (initial_supernet(TINY_SPACE, config, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.conv.weight"], other["stem.0.conv.weight"])
    assert first["cells.0.0.project.bn.weight"].eq(0.25).all()
    assert first["cells.1.0.project.bn.weight"].eq(1.0).all()
