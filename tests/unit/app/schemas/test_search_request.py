"""The body of POST /search."""

import functools
import operator
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.search_config import SearchConfig
from app.domain.search_space import preset
from app.schemas.search_request import SearchRequest


def test_only_what_is_given_overrides_the_preset() -> None:
    request = SearchRequest.model_validate({"dataset": "digits", "seed": 3, "num_classes": None})
    assert request.overrides == {"seed": 3, "num_classes": None}
    assert request.as_json() == {"dataset": "digits", "seed": 3, "num_classes": None}
    assert (request.search_space, request.preset) == ("fairnas", "quick")


def test_every_field_of_the_configuration_can_be_given() -> None:
    assert SearchConfig.model_fields.keys() <= SearchRequest.model_fields.keys()


def test_a_space_of_ones_own_survives() -> None:
    space = preset("nas-bench-macro").model_dump(mode="json")
    request = SearchRequest.model_validate({"dataset": "digits", "search_space": space})
    assert request.search_space == preset("nas-bench-macro")


@pytest.mark.parametrize("space", [None, 3, ["fairnas"], {}])
def test_what_is_no_space(space: object) -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"dataset": "digits", "search_space": space})


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ((), {"input_resolution": True}),
        ((), {"default_segments": [[0, 1, 2, 3], [4, 5, 6, True]]}),
        (("stem",), {"out_channels": True}),
        (("stem",), {"stride": True}),
        (("stem",), {"separable_out_channels": True}),
        (("head",), {"dropout": False}),
        (("cells", 7), {"out_channels": True}),
        (("cells", 7), {"stride": True}),
        (("cells", 7, "choices", 0), {"kernel_size": True}),
        (("cells", 7, "choices", 1), {"expansion": True}),
        (("cells", 7, "choices", 2), {"se_ratio": False}),
    ],
)
def test_booleans_in_a_space_of_ones_own_are_no_numbers(part: tuple[str | int, ...], wrong: dict[str, Any]) -> None:
    space = preset("nas-bench-macro").model_dump(mode="json")
    inner = functools.reduce(operator.getitem, part, space)
    inner.update(wrong)
    with pytest.raises(ValidationError, match="write numbers as numbers") as caught:
        SearchRequest.model_validate({"dataset": "digits", "search_space": space})
    assert [error["loc"] for error in caught.value.errors()] == [("search_space", "space", *part, *wrong)]


def test_what_a_space_says_of_a_residual_connection_is_a_boolean() -> None:
    space = preset("nas-bench-macro").model_dump(mode="json")
    for keeps_shape in (True, False, None):
        space["cells"][7]["keeps_shape"] = keeps_shape
        request = SearchRequest.model_validate({"dataset": "digits", "search_space": space})
        assert request.search_space.cells[7].keeps_shape is keeps_shape
