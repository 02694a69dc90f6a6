"""``true`` is no 1, wherever it stands in a body; and what is a boolean may be one."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from app.schemas.strict_numbers import refuse_boolean


class Body(BaseModel):
    epochs: int = 1
    rate: float | None = None
    num_images: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    segments: list[list[int]] = []
    from_supernet: bool = False

    _numbers_are_numbers = field_validator("*", mode="before")(refuse_boolean)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"epochs": True}, "epochs"),
        ({"rate": False}, "rate"),
        ({"num_images": True}, "num_images"),
        ({"segments": [[0, 1], [2, True]]}, "segments"),
    ],
)
def test_booleans_are_refused_where_they_are_none(body: dict[str, Any], loc: str) -> None:
    with pytest.raises(ValidationError, match="write numbers as numbers and texts as texts") as caught:
        Body.model_validate(body)
    assert [error["loc"] for error in caught.value.errors()] == [(loc,)]


def test_what_was_written_is_repeated_as_json_has_it() -> None:
    with pytest.raises(ValidationError, match="must not be false"):
        Body.model_validate({"epochs": False})


@pytest.mark.parametrize(
    "body",
    [
        {"epochs": 1, "rate": 0.0, "num_images": 5, "segments": [[0], [1, 0]], "from_supernet": True},
        {"rate": None, "num_images": "all", "segments": [], "from_supernet": False},
    ],
)
def test_everything_else_passes(body: dict[str, Any]) -> None:
    assert Body.model_validate(body).model_dump(include=set(body)) == body


def test_json_knows_the_difference() -> None:
    assert Body.model_validate_json('{"epochs": 1}').epochs == 1
    with pytest.raises(ValidationError, match="must not be true"):
        Body.model_validate_json('{"epochs": true}')
