"""Exact costs: every published figure, all of NAS-Bench-Macro, and sums against a count layer by layer."""

import hashlib
from itertools import product

import pytest

from app.domain.multi_adds import Cost, cell_costs, count, feasible_range, fixed_cost
from app.domain.rounds import default_architecture
from app.domain.search_space import PRESETS, Cell, Choice, Head, InvalidArchitectureError, SearchSpace, Stem

FAIRNAS, FAIRNAS_SE, MACRO = PRESETS["fairnas"], PRESETS["fairnas-se"], PRESETS["nas-bench-macro"]

A = "73 33 73 36 76 33 33 76 76 53 36 53 53 36 36 76 36 76 56"
B = "53 33 53 33 36 53 73 33 36 53 33 36 73 33 76 56 76 36 56"
C = "53 33 73 33 33 33 33 33 33 36 33 33 33 33 76 76 36 36 56"
CHOICE_OF = {"33": 0, "53": 1, "73": 2, "36": 3, "56": 4, "76": 5}


def fairnas_architecture(cells: str) -> tuple[int, ...]:
    return tuple(CHOICE_OF[cell] for cell in cells.split())


def squeezed(se_ratio: float) -> SearchSpace:
    """The SE variant with another squeeze ratio and 10 classes."""
    cells = tuple(
        cell.model_copy(
            update={"choices": tuple(choice.model_copy(update={"se_ratio": se_ratio}) for choice in cell.choices)}
        )
        for cell in FAIRNAS_SE.cells
    )
    return FAIRNAS_SE.model_copy(update={"cells": cells, "num_classes": 10})


@pytest.mark.parametrize(
    ("cells", "multi_adds", "params"),
    [
        (A, 388_122_848, 4_651_352),
        (B, 345_297_632, 4_506_272),
        (C, 321_024_992, 4_397_864),
        ("33 " * 19, 247_129_856, 3_189_080),
        ("36 " * 19, 452_036_096, 4_679_144),
        ("76 " * 19, 557_405_696, 5_090_024),
    ],
    ids=["FairNAS-A", "FairNAS-B", "FairNAS-C", "smallest", "M0", "largest"],
)
def test_fairnas(cells: str, multi_adds: int, params: int) -> None:
    assert count(FAIRNAS, fairnas_architecture(cells)) == Cost(multi_adds, params)


@pytest.mark.parametrize(
    ("cells", "se_ratio", "params"),
    [
        (A, 1.0, 5_835_322),
        (A, 0.5, 4_613_730),
        (B, 1.0, 5_603_242),
        (B, 0.5, 4_424_850),
        (C, 1.0, 5_429_530),
        (C, 0.5, 4_283_586),
    ],
)
def test_fairnas_with_squeeze_and_excitation(cells: str, se_ratio: float, params: int) -> None:
    assert count(squeezed(se_ratio), fairnas_architecture(cells)).params == params


def test_the_papers_initial_architecture_is_the_default() -> None:
    assert count(FAIRNAS, default_architecture(FAIRNAS)).multi_adds == 452_036_096


def test_feasible_range_of_fairnas() -> None:
    assert feasible_range(FAIRNAS) == (Cost(247_129_856, 3_189_080), Cost(557_405_696, 5_090_024))


def test_feasible_range_of_nas_bench_macro() -> None:
    smallest, largest = feasible_range(MACRO)
    assert (smallest, largest) == (count(MACRO, (0,) * 8), count(MACRO, (2,) * 8))


@pytest.mark.parametrize(
    ("code", "params", "multi_adds"),
    [
        ("00000000", 387_882, 7_713_280),
        ("00000001", 791_594, 14_115_328),
        ("00000002", 1_219_370, 20_910_592),
        ("10000000", 396_298, 12_128_768),
        ("01201201", 1_283_434, 46_109_184),
        ("12121212", 2_330_186, 80_617_984),
        ("21021021", 1_994_922, 64_512_512),
        ("11111111", 1_588_874, 53_246_464),
        ("22222222", 2_932_586, 105_660_928),
    ],
)
def test_nas_bench_macro_sample(code: str, params: int, multi_adds: int) -> None:
    assert count(MACRO, MACRO.parse_code(code)) == Cost(multi_adds, params)


def test_all_of_nas_bench_macro_by_their_digest() -> None:
    """The digest of the data set's columns architecture, params and multi_adds, which are not in this repository."""
    digest = hashlib.sha256()
    for architecture in product(range(3), repeat=8):
        cost = count(MACRO, architecture)
        digest.update(f"{MACRO.code(architecture)},{cost.params},{cost.multi_adds}\n".encode())
    assert digest.hexdigest() == "672d7cab8462f1cd347a9e2c45dd635f39fa6432d46cd736b20c0cc1033324ac"


def one_cell_space(*choices: Choice, out_channels: int = 4, stride: int = 1, resolution: int = 7) -> SearchSpace:
    return SearchSpace(
        name="small",
        input_resolution=resolution,
        num_classes=3,
        stem=Stem(out_channels=4, stride=2),
        cells=(Cell.model_validate({"out_channels": out_channels, "stride": stride, "choices": choices}),),
        head=Head(out_channels=5),
    )


def test_odd_resolutions_round_up() -> None:
    """7 pixels with stride 2 and padding 1 give 4, those again 2."""
    space = one_cell_space(Choice(), Choice(expansion=6), stride=2)
    stem, head = 3 * 4 * 9 * 4 * 4, 4 * 5 * 2 * 2 + 5 * 3
    assert fixed_cost(space).multi_adds == stem + head
    expand, depthwise, project = 4 * 12 * 4 * 4, 12 * 9 * 2 * 2, 12 * 4 * 2 * 2
    assert cell_costs(space)[0][0].multi_adds == expand + depthwise + project


def test_identity_is_free_where_the_shape_stays() -> None:
    space = one_cell_space(Choice(kind="identity"), Choice())
    assert cell_costs(space)[0][0] == Cost(0, 0)


@pytest.mark.parametrize(("out_channels", "stride", "pixels"), [(6, 1, 16), (4, 2, 4)])
def test_identity_is_a_pointwise_convolution_where_the_shape_changes(
    out_channels: int, stride: int, pixels: int
) -> None:
    space = one_cell_space(Choice(kind="identity"), Choice(), out_channels=out_channels, stride=stride)
    weights = 4 * out_channels
    assert cell_costs(space)[0][0] == Cost(weights * pixels, weights + 2 * out_channels)


def test_squeeze_has_at_least_one_channel() -> None:
    plain, attentive = cell_costs(one_cell_space(Choice(), Choice(se_ratio=0.01)))[0]
    assert attentive.params - plain.params == (12 * 1 + 1) + (1 * 12 + 12)
    assert attentive.multi_adds - plain.multi_adds == 12 + 12


def test_a_stem_without_a_separable_part_costs_less() -> None:
    stem = FAIRNAS.stem.model_copy(update={"separable_out_channels": None})
    plain = FAIRNAS.model_copy(update={"stem": stem})
    saved = fixed_cost(FAIRNAS).multi_adds - fixed_cost(plain).multi_adds
    assert saved == (32 * 9 + 32 * 16) * 112 * 112


def test_only_architectures_of_the_space_are_counted() -> None:
    with pytest.raises(InvalidArchitectureError, match="has 19 cells, this one has 8"):
        count(FAIRNAS, (0,) * 8)
