"""Latency tables: exact sums, what they refuse, and their CSV form."""

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.latency import LatencyTable, layout_digest
from app.domain.search_space import SearchSpace, preset
from app.domain.subspace import Subspace, SuperCell

SPACE = preset("nas-bench-macro")
LATENCIES = st.floats(0, 1e6)


def random_table(space: SearchSpace = SPACE, seed: int = 0) -> LatencyTable:
    rng = np.random.default_rng(seed)
    return LatencyTable(float(rng.random()), tuple(tuple(rng.random(n).tolist()) for n in space.num_choices))


@given(st.lists(LATENCIES, min_size=24, max_size=24), LATENCIES)
def test_csv_there_and_back(latencies: list[float], base_ms: float) -> None:
    table = LatencyTable(base_ms, tuple(tuple(latencies[i : i + 3]) for i in range(0, 24, 3)))
    assert LatencyTable.from_csv(table.to_csv(), SPACE) == table


def test_csv_in_any_order_with_names_and_blank_lines() -> None:
    table = random_table()
    header, *lines = table.to_csv().splitlines()
    named = []
    for line in lines[1:]:
        cell, choice, ms = line.split(",")
        named.append(f"{cell}, {('ID', 'K3E3', 'K5E6')[int(choice)]} ,{ms}")
    lines = [lines[0], *named]
    random.Random(0).shuffle(lines)
    assert LatencyTable.from_csv("\n\n".join([header, *lines]), SPACE) == table


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_as_spreadsheets_write_it(mark: str, line_end: str) -> None:
    table = random_table()
    assert LatencyTable.from_csv(mark + table.to_csv().replace("\n", line_end), SPACE) == table


@pytest.mark.parametrize("text", ["PK\x03\x04\r\x00\x01,\ufffd", "\ufeff", "\0" * 9, "x" * 200_000, "a\rb"])
def test_what_is_no_csv(text: str) -> None:
    with pytest.raises(ValueError, match="cell,choice,latency_ms"):
        LatencyTable.from_csv(text, SPACE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "first line must be cell,choice,latency_ms"),
        (lambda lines: lines[:-1], "1 latencies of nas-bench-macro are missing, the first is that of cell 7, choice 2"),
        (lambda lines: [lines[0], *lines[2:]], "that of base"),
        (lambda lines: [*lines, lines[3]], "line 27: 0, 1 is given twice"),
        (lambda lines: [*lines[:-1], "7,2,fast"], "line 26: 'fast' is no number of milliseconds"),
        (lambda lines: [*lines[:-1], "7,2,nan"], "cell 7, choice 2: a latency is from 0 to"),
        (lambda lines: [*lines[:-1], "7,2,-1"], "not -1"),
        (lambda lines: [*lines[:-1], "9" * 5000 + ",0,1"], "has the cells 0 to 7 and base, not '9"),
        (lambda lines: [*lines[:-1], "8,0,1"], "has the cells 0 to 7 and base, not '8'"),
        (lambda lines: [*lines[:-1], "7,K9E9,1"], "cell 7 has the choices ID, K3E3, K5E6"),
        (lambda lines: [*lines[:-1], "7,1"], "three fields are needed"),
        (lambda _: [], "first line"),
    ],
)
def test_csv_that_says_what_is_wrong(change: object, message: str) -> None:
    assert callable(change)
    lines = change(random_table().to_csv().splitlines())
    with pytest.raises(ValueError, match=re.escape(message)):
        LatencyTable.from_csv("\n".join(lines), SPACE)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, 1e7])
def test_latencies_that_are_none(bad: float) -> None:
    with pytest.raises(ValueError, match="a latency is from 0"):
        LatencyTable(bad, ((1.0,),))
    with pytest.raises(ValueError, match="cell 0, choice 1: a latency is from 0"):
        LatencyTable(1.0, ((1.0, bad),))


def test_a_table_of_another_space() -> None:
    with pytest.raises(ValueError, match="has 19 cells, there are latencies of 8"):
        random_table().check_fits(preset("fairnas"))
    with pytest.raises(ValueError, match="cell 1 of nas-bench-macro has 3 choices, there are 2"):
        LatencyTable(1.0, ((1.0, 1.0, 1.0), (1.0, 1.0), *[(1.0,) * 3] * 6)).check_fits(SPACE)
    random_table().check_fits(SPACE)


def test_which_networks_share_latencies() -> None:
    space = preset("fairnas")
    same = space.model_copy(update={"name": "mine", "num_classes": 10, "default_segments": None})
    assert layout_digest(same) == layout_digest(space)
    said = {
        "head": space.head.model_copy(update={"dropout": 0.5}),
        "cell_activation": space.activation,
        "cells": tuple(
            cell.model_copy(update={"keeps_shape": space.keeps_shape(index)}) for index, cell in enumerate(space.cells)
        ),
    }
    assert layout_digest(space.model_copy(update=said)) == layout_digest(space)
    assert layout_digest(space.proxy(resolution=32)) != layout_digest(space)
    assert layout_digest(preset("fairnas-se")) != layout_digest(space)


def test_sums_over_a_subspace_are_those_of_each_architecture() -> None:
    space, table = preset("fairnas"), random_table(preset("fairnas"))
    super_cell = SuperCell(tuple(range(4)) + tuple(range(7, 19)), ((1,) * 16, (5, 0) * 8))
    subspace = Subspace(space, (3,) * 19, (4, 5, 6), super_cell)
    expected = [float(table.function.of(np.array([subspace.architecture(i)]))[0]) for i in range(subspace.size)]
    assert subspace.sums(table.function).tolist() == expected
