"""Search spaces as data: presets, codes, own spaces and what is refused, proxies."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domain.search_space import (
    PRESETS,
    Cell,
    Choice,
    Head,
    InvalidArchitectureError,
    SearchSpace,
    Stem,
    check_segments,
    preset,
)

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")


def own_space(**changes: Any) -> dict[str, Any]:
    """A small space as a request would bring it, with some fields changed."""
    space: dict[str, Any] = {
        "name": "own",
        "input_resolution": 32,
        "num_classes": 10,
        "stem": {"out_channels": 16, "stride": 1},
        "cells": [
            {"out_channels": 16, "choices": [{"kernel_size": 3}, {"kernel_size": 5, "expansion": 6}]},
            {"out_channels": 24, "stride": 2, "choices": [{"kind": "identity"}, {"se_ratio": 0.25}, {}]},
        ],
        "head": {"out_channels": 64},
    }
    return {**space, **changes}


class TestPresets:
    def test_names(self) -> None:
        assert set(PRESETS) == {"fairnas", "fairnas-se", "nas-bench-macro"}

    def test_unknown_name_lists_those_there_are(self) -> None:
        with pytest.raises(ValueError, match="no search space 'darts'; there are fairnas, fairnas-se, nas-bench-macro"):
            preset("darts")

    def test_fairnas_is_the_papers(self) -> None:
        assert FAIRNAS.size == 6**19
        assert FAIRNAS.input_resolution == 224
        assert FAIRNAS.num_classes == 1000
        labels = [choice.label for choice in FAIRNAS.cells[0].choices]
        assert labels == ["K3E3", "K5E3", "K7E3", "K3E6", "K5E6", "K7E6"]
        assert [len(segment) for segment in FAIRNAS.segments] == [7, 6, 6]
        residual = [FAIRNAS.keeps_shape(i) for i in range(19)]
        assert residual == [i in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17) for i in range(19)]

    def test_squeeze_and_excitation_is_in_the_cells_only(self) -> None:
        space = preset("fairnas-se")
        assert (space.activation, space.cell_activation) == ("relu6", "swish")
        assert {choice.se_ratio for cell in space.cells for choice in cell.choices} == {1.0}

    def test_nas_bench_macro(self) -> None:
        assert MACRO.size == 6561
        assert [choice.label for choice in MACRO.cells[0].choices] == ["ID", "K3E3", "K5E6"]
        assert [cell.stride for cell in MACRO.cells] == [2, 1, 2, 1, 1, 2, 1, 1]

    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_json_round_trip(self, name: str) -> None:
        assert SearchSpace.model_validate_json(PRESETS[name].model_dump_json()) == PRESETS[name]


class TestCodes:
    @given(st.lists(st.integers(0, 5), min_size=19, max_size=19))
    def test_round_trip(self, choices: list[int]) -> None:
        code = FAIRNAS.code(choices)
        assert len(code) == 19
        assert FAIRNAS.parse_code(code) == tuple(choices)

    def test_readable(self) -> None:
        assert FAIRNAS.readable((0, 4, *(2,) * 17)).startswith("K3E3 K5E6 K7E3")

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("0" * 18, "has 19 cells, this one has 18"),
            ("0" * 20, "has 19 cells, this one has 20"),
            ("0" * 18 + "6", "cell 18 of fairnas has the choices 0 to 5, not 6"),
            ("", "one digit per cell"),
            ("K3E3", "one digit per cell"),
            ("-" + "0" * 18, "one digit per cell"),
            ("²" * 19, "one digit per cell"),
            ("٣" * 19, "one digit per cell"),
        ],
    )
    def test_wrong_codes_say_what_would_be_right(self, code: str, message: str) -> None:
        with pytest.raises(InvalidArchitectureError, match=message):
            FAIRNAS.parse_code(code)

    def test_a_very_long_code_is_not_repeated_back(self) -> None:
        with pytest.raises(InvalidArchitectureError) as caught:
            FAIRNAS.parse_code("x" * 100_000)
        assert len(str(caught.value)) < 300

    def test_negative_choice(self) -> None:
        with pytest.raises(InvalidArchitectureError, match="not -1"):
            FAIRNAS.check((-1, *(0,) * 18))


class TestOwnSpaces:
    def test_json_round_trip(self) -> None:
        space = SearchSpace.model_validate(own_space())
        assert space.size == 6
        assert space.keeps_shape(0)
        assert not space.keeps_shape(1)
        assert SearchSpace.model_validate_json(space.model_dump_json()) == space

    def test_default_segments_are_runs_of_up_to_seven_cells(self) -> None:
        cell = own_space()["cells"][0]
        for num_cells in (1, 7, 8, 15, 20, 64):
            space = SearchSpace.model_validate(own_space(cells=[cell] * num_cells))
            check_segments(space.segments, num_cells)
            assert max(map(len, space.segments)) <= 7
            assert max(map(len, space.segments)) - min(map(len, space.segments)) <= 1

    def test_own_default_segments(self) -> None:
        space = SearchSpace.model_validate(own_space(default_segments=[[1], [0]]))
        assert space.segments == ((1,), (0,))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"cells": [{"out_channels": 16, "stride": 2, "keeps_shape": True, "choices": [{}, {"expansion": 6}]}]},
                "cell 0 cannot keep its shape: it has stride 2 and takes 16 channels to 16",
            ),
            (
                {"cells": [{"out_channels": 24, "keeps_shape": True, "choices": [{}, {"expansion": 6}]}]},
                "cell 0 cannot keep its shape: it has stride 1 and takes 16 channels to 24",
            ),
            ({"cells": [{"out_channels": 16, "choices": [{}, {}]}]}, "names the same choice twice"),
            (
                {
                    "cells": [
                        {"out_channels": 8, "choices": [{"kind": "identity"}, {"kind": "identity", "kernel_size": 5}]}
                    ]
                },
                "names the same choice twice",
            ),
            (
                {"cells": [{"out_channels": 16, "choices": [{"expansion": e} for e in range(1, 12)]}]},
                "at most 10 items",
            ),
            ({"cells": [{"out_channels": 16, "choices": []}]}, "at least 1 item"),
            ({"cells": [{"out_channels": 16, "choices": [{}]}]}, "one architecture only"),
            ({"cells": []}, "at least 1 item"),
            ({"cells": own_space()["cells"] * 33}, "at most 64 items"),
            ({"cells": [{"out_channels": 5000, "choices": [{}, {"expansion": 6}]}]}, "less than or equal to 4096"),
            ({"cells": [{"out_channels": 0, "choices": [{}, {"expansion": 6}]}]}, "greater than or equal to 1"),
            ({"cells": [{"out_channels": 8, "stride": 3, "choices": [{}, {"expansion": 6}]}]}, "1 or 2"),
            ({"cells": [{"out_channels": 8, "choices": [{}, {"kernel_size": 4}]}]}, "Input should be 1, 3, 5, 7"),
            ({"cells": [{"out_channels": 8, "choices": [{}, {"se_ratio": float("nan")}]}]}, "less than or equal to 4"),
            ({"default_segments": [[0], [0, 1]]}, "overlap: cell 0 is named twice"),
            ({"default_segments": [[0]]}, r"miss the cells \[1\]"),
            ({"input_resolution": 100_000}, "less than or equal to 512"),
            ({"num_classes": 1}, "greater than or equal to 2"),
            ({"name": "../etc"}, "should match pattern"),
            ({"colour": "red"}, "Extra inputs are not permitted"),
            ({"head": {"dropout": 1.0}}, "less than 1"),
        ],
    )
    def test_nonsense_is_refused_with_a_reason(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            SearchSpace.model_validate(own_space(**changes))

    def test_values_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            FAIRNAS.name = "other"  # type: ignore[misc]  # that is what is tested


class TestSegments:
    def test_a_partition_in_any_order_will_do(self) -> None:
        check_segments([[3, 1], [0], [2]], 4)

    @pytest.mark.parametrize(
        ("segments", "message"),
        [
            ([[0, 1], [1, 2]], "overlap: cell 1 is named twice"),
            ([[0, 0], [1, 2]], "overlap: cell 0 is named twice"),
            ([[0], [2]], r"miss the cells \[1\]"),
            ([], r"miss the cells \[0, 1, 2\]"),
            ([[0, 1, 2], []], "segment 1 is empty"),
            ([[0, 1, 2, 3]], "segment 0 names cell 3; the space has the cells 0 to 2"),
            ([[0, 1, -1]], "segment 0 names cell -1"),
        ],
    )
    def test_what_is_no_partition(self, segments: list[list[int]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            check_segments(segments, 3)


class TestProxy:
    def test_a_proxy_of_nothing_is_the_space_itself(self) -> None:
        proxy = FAIRNAS.proxy()
        assert proxy.cells[5].out_channels == FAIRNAS.cells[5].out_channels
        assert (proxy.input_resolution, proxy.num_classes) == (224, 1000)

    def test_widths_are_multiples_of_eight_and_choices_stay(self) -> None:
        proxy = FAIRNAS.proxy(resolution=32, width=0.25, num_classes=10)
        assert (proxy.input_resolution, proxy.num_classes) == (32, 10)
        assert [cell.out_channels for cell in proxy.cells] == [8] * 2 + [16] * 4 + [24] * 8 + [48] * 4 + [80]
        assert (proxy.stem.out_channels, proxy.stem.separable_out_channels, proxy.head.out_channels) == (8, 8, 320)
        assert proxy.num_choices == FAIRNAS.num_choices

    @pytest.mark.parametrize("width", [0.05, 0.25, 0.5, 1.0])
    def test_residual_connections_are_the_targets(self, width: float) -> None:
        """80 and 96 channels both become 24 at a quarter: the cell between them still has no residual connection."""
        proxy = FAIRNAS.proxy(width=width)
        assert [proxy.keeps_shape(i) for i in range(19)] == [FAIRNAS.keeps_shape(i) for i in range(19)]

    def test_a_proxy_is_a_valid_space(self) -> None:
        proxy = FAIRNAS.proxy(resolution=32, width=0.25)
        assert SearchSpace.model_validate_json(proxy.model_dump_json()) == proxy

    def test_a_stem_without_a_separable_part_keeps_none(self) -> None:
        assert MACRO.proxy(width=0.5).stem.separable_out_channels is None
        assert MACRO.proxy(width=0.5).stem.final_channels == 16

    def test_a_space_made_in_code(self) -> None:
        space = SearchSpace(
            name="two",
            input_resolution=8,
            num_classes=2,
            stem=Stem(out_channels=8),
            cells=(Cell(out_channels=8, choices=(Choice(), Choice(expansion=2))),),
            head=Head(out_channels=8),
        )
        assert space.proxy(width=0.05).cells[0].out_channels == 8
