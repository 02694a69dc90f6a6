"""The configuration: the paper's values field by field, and what is refused."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.search_config import MIN_FITTED_PAIRS, SearchConfig, from_preset
from app.domain.search_space import SearchSpace, preset

FAIRNAS, MACRO = preset("fairnas"), preset("nas-bench-macro")

SECTION_4_1 = {
    "num_classes": 100,
    "num_images": None,
    "validation_fraction": 0.1,
    "proxy_resolution": None,
    "proxy_width": 1.0,
    "epochs": 150,
    "batch_size": 1024,
    "learning_rate": 0.18,
    "momentum": 0.9,
    "weight_decay": 4e-5,
    "segments": (tuple(range(7)), tuple(range(7, 13)), tuple(range(13, 19))),
    "segment_order": "front_to_back",
    "num_rounds": 3,
    "initial_architecture": "3" * 19,
    "num_sampled": 2000,
    "num_held_out": 200,
    "bn_statistics": "running",
    "similarity": "assigned",
    "hamming_threshold": 1,
    "gcn_hidden_sizes": (512, 512),
    "gcn_epochs": 600,
    "gcn_learning_rate": 0.01,
    "gcn_weight_decay": 5e-4,
    "gcn_milestones": (0.5, 0.75),
    "gcn_decay": 0.1,
    "num_reevaluated": 100,
    "num_preserved": 6,
}


@pytest.mark.parametrize(("name", "value"), SECTION_4_1.items())
def test_the_paper_preset_is_section_4_1(name: str, value: object) -> None:
    assert getattr(from_preset("paper", {}).resolved(FAIRNAS), name) == value


def test_own_bn_statistics_are_the_default_elsewhere() -> None:
    assert SearchConfig().bn_statistics == from_preset("quick", {}).bn_statistics == "recalibrated"


@pytest.mark.parametrize("space", [FAIRNAS, preset("fairnas-se"), MACRO], ids=lambda space: space.name)
@pytest.mark.parametrize("name", ["paper", "quick"])
def test_presets_fit_the_preset_spaces(name: str, space: SearchSpace) -> None:
    config = from_preset(name, {}).resolved(space)
    assert SearchConfig.model_validate_json(config.model_dump_json()) == config
    assert config.resolved(space) == config


def test_overrides() -> None:
    config = from_preset("quick", {"epochs": 3, "gcn_hidden_sizes": [64, 32]})
    assert (config.epochs, config.gcn_hidden_sizes, config.num_sampled) == (3, (64, 32), 300)


def test_the_papers_predictor_is_the_paper_presets_alone() -> None:
    assert from_preset("paper", {}).predictor == "paper"
    assert from_preset("quick", {}).predictor == SearchConfig().predictor == "auto"
    with pytest.raises(ValueError, match="'paper' or 'auto'"):
        from_preset("quick", {"predictor": "ridge"})


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="no preset 'slow'; there are paper, quick"):
        from_preset("slow", {})


@pytest.mark.parametrize(("num_sampled", "held_out"), [(2000, 200), (300, 30), (14, 2), (105, 10)])
def test_a_tenth_is_held_out(num_sampled: int, held_out: int) -> None:
    assert SearchConfig(num_sampled=num_sampled).held_out == held_out


def test_a_given_number_is_held_out() -> None:
    assert SearchConfig(num_held_out=77).held_out == 77


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gcn_hidden_sizes": (0, 512)}, "greater than or equal to 1"),
        ({"gcn_hidden_sizes": (512,)}, "at least 2 items"),
        ({"gcn_hidden_sizes": (512, 5000)}, "less than or equal to 4096"),
        ({"num_sampled": 0}, "greater than or equal to 1"),
        ({"num_sampled": 11}, f"9 pairs are left to fit, and fitting needs at least {MIN_FITTED_PAIRS}"),
        ({"num_sampled": 100, "num_held_out": 95}, "num_sampled is 100 with 95 held out: 5 pairs are left"),
        ({"num_sampled": 100, "num_held_out": 200}, "raise num_sampled"),
        ({"num_held_out": 1}, "greater than or equal to 2"),
        ({"num_preserved": 7, "num_reevaluated": 6}, r"num_preserved \(7\) must not exceed num_reevaluated \(6\)"),
        ({"num_preserved": 0}, "greater than or equal to 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"gcn_epochs": 0}, "greater than or equal to 1"),
        ({"batch_size": 0}, "greater than or equal to 2"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": math.inf}, "finite number"),
        ({"learning_rate": math.nan}, "finite number"),
        ({"momentum": 1.0}, "less than 1"),
        ({"momentum": math.nan}, "less than 1"),
        ({"validation_fraction": math.nan}, "less than or equal"),
        ({"proxy_width": 0.0}, "greater than or equal to 0.05"),
        ({"proxy_width": math.nan}, "less than or equal"),
        ({"gcn_milestones": (1.0,)}, "less than 1"),
        ({"hamming_threshold": 3}, "1 or 2"),
        ({"similarity": "learned"}, "'assigned' or 'measured'"),
        ({"bn_statistics": "none"}, "'recalibrated', 'running' or 'batch'"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"num_rounds": 0}, "greater than or equal to 1"),
        ({"num_rounds": 65}, "less than or equal to 64"),
        ({"num_standalone": -1}, "greater than or equal to 0"),
        ({"standalone_start": "nothing"}, "'scratch' or 'supernet'"),
        ({"preserve_by": "luck"}, "'reevaluated' or 'weighted'"),
        ({"epoch": 3}, "Extra inputs are not permitted"),
    ],
)
def test_values_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        from_preset("paper", changes)


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        (FAIRNAS, {"segments": [[0, 1], [1, 2]]}, "overlap: cell 1"),
        (FAIRNAS, {"segments": [list(range(18))]}, r"miss the cells \[18\]"),
        (FAIRNAS, {"segments": [list(range(20))]}, "names cell 19; the space has the cells 0 to 18"),
        (FAIRNAS, {"segments": [list(range(19)), []]}, "segment 1 is empty"),
        (FAIRNAS, {"initial_architecture": "333"}, "has 19 cells, this one has 3"),
        (FAIRNAS, {"initial_architecture": "9" * 19}, "choices 0 to 5, not 9"),
        (MACRO, {"num_rounds": 2}, "at least two segments"),
        (
            MACRO,
            {"num_sampled": 6562},
            r"num_sampled is 6562, but the subspace of round 0 .* has 6561 architectures; lower num_sampled to at most",
        ),
        (
            MACRO,
            {"segments": [[0, 1, 2, 3], [4, 5, 6, 7]], "num_sampled": 82, "num_reevaluated": 10, "num_preserved": 2},
            "subspace of round 0 .* has 81 architectures",
        ),
        (
            MACRO,
            {
                "segments": [[0, 1, 2, 3, 4], [5, 6, 7]],
                "num_sampled": 55,
                "num_reevaluated": 10,
                "num_preserved": 2,
            },
            "subspace of round 1 .* has 54 architectures",
        ),
        (
            MACRO,
            {
                "segments": [[0, 1, 2], [3, 4, 5, 6, 7]],
                "num_rounds": 3,
                "num_sampled": 20,
                "num_reevaluated": 28,
                "num_preserved": 2,
            },
            "num_reevaluated is 28, but the subspace of round 0 .* has 27",
        ),
        (
            FAIRNAS,
            {"segments": [list(range(9)), list(range(9, 19))]},
            "round 1 would have up to 362,797,056 architectures, and a table holds 16,777,216: use shorter segments",
        ),
        (FAIRNAS, {"segments": [list(range(19))]}, "round 0 would have up to"),
        (FAIRNAS, {"num_sampled": 100, "num_standalone": 301}, "num_standalone is 301, but 3 rounds .* at most 300"),
    ],
)
def test_what_does_not_fit_the_space(space: SearchSpace, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_preset("paper", changes).resolved(space)


def test_the_largest_that_fits() -> None:
    config = {"segments": [[0, 1, 2, 3], [4, 5, 6, 7]], "num_sampled": 81, "num_reevaluated": 81, "num_preserved": 2}
    assert from_preset("quick", config).resolved(MACRO).num_sampled == 81


def test_a_round_that_comes_around_may_be_smaller() -> None:
    """Preserved ones that differ in its cells only are merged: with bad luck there is one choice in the super-cell."""
    config = {
        "segments": [[0, 1, 2], [3, 4, 5, 6, 7]],
        "num_rounds": 3,
        "num_sampled": 27,
        "num_reevaluated": 27,
        "num_preserved": 2,
    }
    assert from_preset("quick", config).resolved(MACRO).num_rounds == 3


def test_resolving_sorts_segments_and_fills_in() -> None:
    config = from_preset("quick", {"segments": [[4, 0, 1, 2, 3], [7, 6, 5]], "num_sampled": 30, "num_reevaluated": 9})
    resolved = config.resolved(MACRO)
    assert resolved.segments == ((0, 1, 2, 3, 4), (5, 6, 7))
    assert (resolved.num_rounds, resolved.num_held_out, resolved.initial_architecture) == (2, 3, "2" * 8)


def test_true_labels_are_for_those_who_ask() -> None:
    for preset_name in ("paper", "quick"):
        config = from_preset(preset_name, {})
        assert (config.num_standalone, config.preserve_by) == (0, None)


@pytest.mark.parametrize(
    ("changes", "weighs"),
    [
        ({}, True),
        ({"predictor": "paper"}, False),
        ({"predictor": "paper", "num_standalone": 8}, True),
        ({"num_standalone": 8}, True),
        ({"preserve_by": "reevaluated"}, False),
        ({"num_standalone": 8, "preserve_by": "reevaluated"}, False),
        ({"preserve_by": "weighted"}, True),
    ],
)
def test_errors_are_weighed_where_they_are_known_or_asked_for(changes: dict[str, Any], *, weighs: bool) -> None:
    assert from_preset("quick", changes).weighs_errors is weighs


@pytest.mark.parametrize(
    ("space", "changes", "scale"),
    [
        ("nas-bench-macro", {}, 1.0),
        ("fairnas", {}, 0.0),
        ("fairnas", {"initialisation": "independent"}, 1.0),
        ("fairnas", {"residual_scale": 0.5}, 0.5),
    ],
)
def test_residual_branches_start_as_the_depth_asks(space: str, changes: dict[str, Any], scale: float) -> None:
    chosen = preset(space)
    assert from_preset("quick", changes).resolved(chosen).residual_scale == scale


def test_what_shapes_a_graph_is_refused_where_there_is_none() -> None:
    changes: dict[str, Any] = {"similarity": "measured", "hamming_threshold": 2}
    with pytest.raises(
        ValueError, match=r"similarity=measured and hamming_threshold=2 shapes .* set predictor to 'paper'"
    ):
        from_preset("quick", changes).resolved(MACRO)
    for used in ({"predictor": "paper"}, {"num_standalone": 8}):
        assert from_preset("quick", {**changes, **used}).resolved(MACRO).hamming_threshold == 2
