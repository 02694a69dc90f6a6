"""Subspaces: the bijection between nodes and architectures, costs and features of all nodes at once."""

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.gray_code import encode
from app.domain.multi_adds import count
from app.domain.search_space import Architecture, InvalidArchitectureError, SearchSpace, preset
from app.domain.subspace import MAX_SUBSPACE_SIZE, Subspace, SuperCell, choices_of

FAIRNAS = preset("fairnas")
M0 = (3,) * 19


@st.composite
def architectures_of(draw: st.DrawFn, space: SearchSpace) -> Architecture:
    return tuple(draw(st.integers(0, n - 1)) for n in space.num_choices)


def own_space(sizes: list[int]) -> SearchSpace:
    """A space whose cells have the given numbers of choices."""
    choices = [{"kind": "identity"}, *({"kernel_size": k, "expansion": e} for e in (1, 3, 6) for k in (3, 5, 7))]
    return SearchSpace.model_validate(
        {
            "name": "own",
            "input_resolution": 9,
            "num_classes": 3,
            "stem": {"out_channels": 8, "stride": 1},
            "cells": [
                {"out_channels": 8 + 4 * (i % 2), "stride": 1 + i % 2, "choices": choices[i % 2 :][:size]}
                for i, size in enumerate(sizes)
            ],
            "head": {"out_channels": 16},
        }
    )


@st.composite
def subspaces(draw: st.DrawFn) -> Subspace:
    """A first round's subspace, or one with a super-cell made of preserved architectures that may partly agree."""
    space = own_space(draw(st.lists(st.integers(1, 4), min_size=2, max_size=5).filter(lambda sizes: max(sizes) > 1)))
    segment = draw(st.lists(st.integers(0, space.num_cells - 1), min_size=1, unique=True))
    if draw(st.booleans()):
        return Subspace(space, draw(architectures_of(space)), tuple(sorted(segment)))
    preserved = draw(st.lists(architectures_of(space), min_size=1, max_size=4))
    return Subspace.following(space, preserved, segment)


def members(subspace: Subspace) -> set[Architecture]:
    """All architectures of a subspace, from its definition."""
    space, base = subspace.space, list(subspace.base)
    covered = subspace.super_cell.cell_indices if subspace.super_cell else ()
    found = set()
    for configuration in subspace.super_cell.choices if subspace.super_cell else ((),):
        for choices in product(*(range(space.num_choices[i]) for i in subspace.segment)):
            for cell_index, choice in zip((*covered, *subspace.segment), (*configuration, *choices), strict=True):
                base[cell_index] = choice
            found.add(tuple(base))
    return found


@given(subspaces())
@settings(max_examples=60, deadline=None)
def test_index_and_architecture_are_a_bijection(subspace: Subspace) -> None:
    every = [subspace.architecture(i) for i in range(subspace.size)]
    assert set(every) == members(subspace)
    assert len(set(every)) == subspace.size
    assert [subspace.index(m) for m in every] == list(range(subspace.size))


@given(subspaces())
@settings(max_examples=60, deadline=None)
def test_many_at_once_equal_one_by_one(subspace: Subspace) -> None:
    index_N = np.arange(subspace.size)[::-1]
    rows = subspace.architectures(index_N)
    assert rows.dtype == np.uint8
    assert [tuple(row) for row in rows.tolist()] == [subspace.architecture(int(i)) for i in index_N]
    assert np.array_equal(subspace.indices(rows), index_N)
    codes = subspace.codes(index_N)
    assert codes == [subspace.space.code(row) for row in rows.tolist()]
    assert np.array_equal(choices_of(codes, subspace.space.num_cells), rows)


@given(subspaces())
@settings(max_examples=60, deadline=None)
def test_costs_of_all_equal_a_count_one_by_one(subspace: Subspace) -> None:
    multi_adds, params = subspace.costs()
    assert multi_adds.dtype == params.dtype == np.int64
    counted = [count(subspace.space, subspace.architecture(i)) for i in range(subspace.size)]
    assert multi_adds.tolist() == [cost.multi_adds for cost in counted]
    assert params.tolist() == [cost.params for cost in counted]


@given(subspaces())
@settings(max_examples=60, deadline=None)
def test_factor_features_add_up_to_the_gray_code(subspace: Subspace) -> None:
    features = subspace.factor_features()
    assert features.factor_sizes == subspace.factor_sizes
    choices_NF = np.stack(np.unravel_index(np.arange(subspace.size), subspace.factor_sizes), axis=1)
    expected = [encode(subspace.space, subspace.architecture(i)) for i in range(subspace.size)]
    assert np.array_equal(features.rows(choices_NF), np.array(expected))


@given(subspaces())
@settings(max_examples=60, deadline=None)
def test_json_round_trip(subspace: Subspace) -> None:
    stored = json.loads(json.dumps(subspace.to_dict()))
    assert Subspace.from_dict(subspace.space, stored) == subspace


def test_the_papers_rounds() -> None:
    first = Subspace(FAIRNAS, M0, tuple(range(7)))
    assert first.size == 6**7 == 279_936
    preserved = [first.architecture(i) for i in (5, 100, 2000, 30_000, 200_000, 279_935)]
    second = Subspace.following(FAIRNAS, preserved, range(7, 13))
    assert second.factor_sizes == (6,) * 7
    assert second.super_cell == SuperCell((*range(7), *range(13, 19)), tuple((*m[:7], *m[13:]) for m in preserved))
    assert second.architecture(0)[:7] == preserved[0][:7]
    assert [second.architecture(i * 6**6)[:7] for i in range(6)] == [m[:7] for m in preserved]


def test_costs_of_a_whole_round_at_random_nodes() -> None:
    first = Subspace(FAIRNAS, M0, tuple(range(7)))
    second = Subspace.following(FAIRNAS, [first.architecture(i) for i in (7, 77, 777)], range(7, 13))
    multi_adds, params = second.costs()
    for index in np.random.default_rng(0).integers(0, second.size, 50).tolist():
        cost = count(FAIRNAS, second.architecture(index))
        assert (multi_adds[index], params[index]) == (cost.multi_adds, cost.params)


def test_equal_choices_are_merged_best_first_when_segments_come_around() -> None:
    """Preserved ones that differ in the next segment's cells only are one choice of the super-cell."""
    space = own_space([3, 3, 2])
    preserved = [(0, 1, 0), (2, 1, 0), (0, 1, 1), (1, 2, 0)]
    subspace = Subspace.following(space, preserved, [0])
    assert subspace.super_cell == SuperCell((1, 2), ((1, 0), (1, 1), (2, 0)))
    assert subspace.size == 9
    assert all(subspace.architecture(subspace.index(m)) == m for m in preserved)


def test_a_segment_of_all_cells_needs_no_super_cell() -> None:
    subspace = Subspace.following(own_space([3, 2]), [(0, 1), (2, 0)], [1, 0])
    assert subspace.super_cell is None
    assert subspace.size == 6


def test_architectures_outside_are_named() -> None:
    subspace = Subspace(FAIRNAS, M0, (0, 1))
    with pytest.raises(ValueError, match="its fixed cells differ"):
        subspace.index((3,) * 18 + (0,))
    following = Subspace.following(FAIRNAS, [M0], range(7))
    with pytest.raises(ValueError, match="not in this round's subspace"):
        following.index((3,) * 18 + (0,))
    with pytest.raises(InvalidArchitectureError):
        subspace.index((3,) * 18)
    with pytest.raises(ValueError, match=r"^3333333333333333330 is not"):
        following.indices([M0, (3,) * 18 + (0,)])


def test_no_architectures_have_no_indices() -> None:
    subspace = Subspace(FAIRNAS, M0, (0, 1))
    assert subspace.indices(choices_of([], 19)).tolist() == []


@pytest.mark.parametrize("index", [-1, 36])
def test_indices_outside(index: int) -> None:
    with pytest.raises(IndexError, match="indices 0 to 35"):
        Subspace(FAIRNAS, M0, (0, 1)).architecture(index)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ((), "non-empty ascending"),
        ((1, 0), "non-empty ascending"),
        ((0, 0), "ascending"),
        ((19,), r"0 to 18, not \[19\]"),
    ],
)
def test_segments_that_are_none(segment: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Subspace(FAIRNAS, M0, segment)


def test_size_limit() -> None:
    assert Subspace(FAIRNAS, M0, tuple(range(9))).size <= MAX_SUBSPACE_SIZE
    with pytest.raises(ValueError, match="may have up to 16,777,216 architectures, this one has 60,466,176"):
        Subspace(FAIRNAS, M0, tuple(range(10)))


@pytest.mark.parametrize(
    ("cells", "choices", "message"),
    [
        ((0,), (), "at least one choice"),
        ((0,), ((1,), (1,)), "must be different"),
        ((0, 1), ((1,),), "one choice index per covered cell"),
        ((), ((),), "non-empty ascending"),
        ((1, 0), ((1, 2),), "non-empty ascending"),
    ],
)
def test_super_cells_that_are_none(cells: tuple[int, ...], choices: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperCell(cells, choices)


@pytest.mark.parametrize(
    ("super_cell", "message"),
    [
        (SuperCell((0,), ((1,),)), "cannot be searched in the next round"),
        (SuperCell((5, 19), ((1, 1),)), r"0 to 18, not \[19\]"),
        (SuperCell((5,), ((6,),)), "choices 0 to 5, not 6"),
    ],
)
def test_super_cells_that_do_not_fit(super_cell: SuperCell, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Subspace(FAIRNAS, M0, (0, 1), super_cell)


@pytest.mark.parametrize(
    "change", [{"base": "3" * 18}, {"segment": [40]}, {"super_cell": {"cell_indices": [5], "choices": [[9]]}}]
)
def test_stored_data_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Subspace.from_dict(FAIRNAS, {**Subspace(FAIRNAS, M0, (0, 1)).to_dict(), **change})
