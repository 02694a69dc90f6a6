"""The body of a retraining: the recipe's fields by name, and only what was given counts."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.standalone_recipe import StandaloneRecipe
from app.schemas.retraining import RetrainingRequest


def test_every_field_of_a_recipe_can_be_given() -> None:
    assert StandaloneRecipe.model_fields.keys() <= RetrainingRequest.model_fields.keys()


def test_only_what_is_given_overrides_the_recipe() -> None:
    """A value that equals the default was given all the same: it holds whatever the recipe says."""
    epochs = StandaloneRecipe().epochs
    request = RetrainingRequest.model_validate({"recipe": "small", "epochs": epochs, "max_gradient_norm": None})
    assert request.overrides == {"epochs": epochs, "max_gradient_norm": None}
    assert request.as_json() == {"recipe": "small", "epochs": epochs, "max_gradient_norm": None}


def test_by_default_it_is_the_proxy_as_the_search_trained_it() -> None:
    request = RetrainingRequest()
    assert (request.recipe, request.network, request.from_supernet, request.overrides) == ("small", "proxy", False, {})
    assert (request.seed, request.num_classes, request.num_images, request.validation_fraction) == (None,) * 4


@pytest.mark.parametrize(("field", "values"), [("num_classes", [2, 100_000, "all"]), ("num_images", [20, "all"])])
def test_a_number_or_all(field: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(RetrainingRequest.model_validate({field: value}), field) == value


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"num_classes": 1}, "num_classes"),
        ({"num_classes": "ALL"}, "num_classes"),
        ({"num_images": 19}, "num_images"),
        ({"num_images": True}, "num_images"),
        ({"validation_fraction": 0.6}, "validation_fraction"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"epochs": True}, "epochs"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"webhook_url": ""}, "webhook_url"),
        ({"weights": "supernet"}, "weights"),
    ],
)
def test_what_will_not_do(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RetrainingRequest.model_validate(body)
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_truth_is_a_boolean_where_one_is_asked_for() -> None:
    assert RetrainingRequest.model_validate({"from_supernet": True}).from_supernet
