"""The body of POST /search."""

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
