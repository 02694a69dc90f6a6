"""Gray coding: 57 bits, distances that are levels of difference, neighbours one bit apart."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.gray_code import bit_distance, bit_tables, choice_bits, encode, num_bits, reflected_gray_code
from app.domain.search_space import PRESETS, Choice, InvalidArchitectureError

FAIRNAS, MACRO = PRESETS["fairnas"], PRESETS["nas-bench-macro"]
KERNELS = [3, 5, 7]


def test_fairnas_takes_57_bits() -> None:
    assert num_bits(FAIRNAS) == num_bits(PRESETS["fairnas-se"]) == 57
    assert encode(FAIRNAS, (0,) * 19).shape == (57,)
    assert encode(FAIRNAS, (0,) * 19).dtype == np.float32


def test_bits_of_the_fairnas_choices_in_order() -> None:
    assert choice_bits(FAIRNAS.cells[0].choices) == (
        (0, 0, 0),
        (0, 1, 0),
        (1, 1, 0),
        (0, 0, 1),
        (0, 1, 1),
        (1, 1, 1),
    )


def test_bit_distance_is_the_level_of_difference() -> None:
    """One step of the kernel is one bit, and so is the expansion."""
    base = [3] * 19
    for cell_index in (0, 7, 18):
        for first, second in product(range(6), repeat=2):
            a, b = (
                FAIRNAS.cells[cell_index].choices[first],
                FAIRNAS.cells[cell_index].choices[second],
            )
            level = abs(KERNELS.index(a.kernel_size) - KERNELS.index(b.kernel_size)) + int(a.expansion != b.expansion)
            m, n = base.copy(), base.copy()
            m[cell_index], n[cell_index] = first, second
            assert bit_distance(FAIRNAS, m, n) == level


def test_distances_of_several_cells_add_up() -> None:
    assert bit_distance(FAIRNAS, (0,) * 19, (5,) * 19) == 3 * 19


@given(st.integers(1, 40))
def test_reflected_code(num_choices: int) -> None:
    codes = reflected_gray_code(num_choices)
    assert len(set(codes)) == num_choices
    assert {len(code) for code in codes} == {(num_choices - 1).bit_length()}
    assert all(sum(a != b for a, b in zip(first, second, strict=True)) == 1 for first, second in pairwise(codes))


def test_other_choices_get_the_reflected_code() -> None:
    assert num_bits(MACRO) == 16
    assert choice_bits(MACRO.cells[0].choices) == ((0, 0), (0, 1), (1, 1))


def test_fairnas_choices_in_another_order_get_the_reflected_code() -> None:
    choices = FAIRNAS.cells[0].choices[::-1]
    assert choice_bits(choices) == reflected_gray_code(6)


def test_a_cell_with_one_choice_takes_no_bit() -> None:
    fixed = FAIRNAS.cells[0].model_copy(update={"choices": (Choice(),)})
    space = FAIRNAS.model_copy(update={"cells": (fixed, *FAIRNAS.cells[1:])})
    assert num_bits(space) == 54
    assert bit_tables(space)[0].shape == (1, 0)
    assert encode(space, (0, *(1,) * 18)).sum() == 18


@given(st.lists(st.integers(0, 5), min_size=19, max_size=19), st.lists(st.integers(0, 5), min_size=19, max_size=19))
def test_different_architectures_have_different_features(first: list[int], second: list[int]) -> None:
    assert (bit_distance(FAIRNAS, first, second) == 0) == (first == second)


def test_only_architectures_of_the_space_are_encoded() -> None:
    with pytest.raises(InvalidArchitectureError, match="choices 0 to 5, not 6"):
        encode(FAIRNAS, (6, *(0,) * 18))
