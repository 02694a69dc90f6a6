"""What pydantic says becomes field errors that help."""

from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from app.domain.names import DATA_SET_NAME_PATTERN, DEVICE_NAME_PATTERN, SPACE_NAME_PATTERN
from app.errors import FieldError
from app.schemas.retraining import RetrainingRequest
from app.schemas.search_request import SearchRequest
from app.services.field_errors import field_errors, from_details


def errors_of(body: dict[str, object]) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        SearchRequest.model_validate(body)
    return field_errors(caught.value, "body", model=SearchRequest)


@pytest.mark.parametrize(
    ("body", "loc", "msg"),
    [
        (
            {"datasett": "x", "dataset": "x"},
            ["body", "datasett"],
            "there is no field 'datasett'; did you mean dataset?",
        ),
        (
            {"dataset": "x", "search_space": {"hed": {}}},
            ["body", "search_space", "hed"],
            "there is no field 'hed'; did you mean head?",
        ),
        (
            {"dataset": "x", "search_space": {"stem": {"strde": 1}}},
            ["body", "search_space", "stem", "strde"],
            "there is no field 'strde'; did you mean stride?",
        ),
        (
            {"dataset": "x", "search_space": {"cells": [{"choices": [{"kernel": 3}]}]}},
            ["body", "search_space", "cells", 0, "choices", 0, "kernel"],
            "there is no field 'kernel'; did you mean kernel_size?",
        ),
        ({}, ["body", "dataset"], "Field required"),
    ],
)
def test_misspelt_names_get_the_closest_ones(body: dict[str, object], loc: list[str | int], msg: str) -> None:
    assert FieldError(loc=loc, msg=msg) in errors_of(body)


def test_a_name_like_no_other_gets_all_of_them() -> None:
    (error,) = errors_of({"dataset": "x", "qqqqqq": 1})
    assert "num_sampled" in error.msg
    assert "search_space" in error.msg


def test_the_domains_own_words_stay() -> None:
    assert field_errors(ValueError("too small"), "body", "x") == [FieldError(loc=["body", "x"], msg="too small")]
    space = {
        "name": "a",
        "input_resolution": 8,
        "num_classes": 2,
        "stem": {},
        "head": {},
        "cells": [{"out_channels": 8, "choices": [{}]}],
    }
    (error,) = errors_of({"dataset": "x", "search_space": space})
    assert error.loc == ["body", "search_space"]
    assert error.msg == "the search space holds one architecture only; give at least one cell two choices"


def test_a_list_is_not_too_short_because_an_item_is_wrong() -> None:
    (error,) = errors_of({"dataset": "x", "gcn_hidden_sizes": [0, 512]})
    assert error.loc == ["body", "gcn_hidden_sizes", 0]
    (error,) = errors_of({"dataset": "x", "gcn_hidden_sizes": [512]})
    assert error.loc == ["body", "gcn_hidden_sizes"]


@pytest.mark.parametrize(
    ("given", "msg"),
    [
        (-1, "Input should be greater than or equal to 20, or 'all'"),
        ("some", "Input should be a valid integer, unable to parse string as an integer, or 'all'"),
    ],
)
def test_what_may_be_a_number_or_a_word_gets_one_error(given: object, msg: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RetrainingRequest.model_validate({"num_images": given, "num_classes": given})
    errors = field_errors(caught.value, model=RetrainingRequest)
    assert [error.loc for error in errors] == [["num_classes"], ["num_images"]]
    assert errors[1].msg == msg


def test_a_device_may_be_called_as_a_kind_of_number() -> None:
    (error,) = errors_of({"dataset": "x", "device_latencies": {"int": 3}})
    assert error.loc == ["body", "device_latencies", "int"]


def test_nothing_is_said_twice() -> None:
    detail = {"type": "less_than_equal", "loc": ("query", "size"), "msg": "too large"}
    assert from_details([detail, detail]) == [FieldError(loc=["query", "size"], msg="too large")]


@pytest.mark.parametrize(
    ("pattern", "msg"),
    [
        (
            DEVICE_NAME_PATTERN,
            "a device's name is 1 to 64 characters long: letters, digits, dots, underscores and hyphens",
        ),
        (DATA_SET_NAME_PATTERN, "a data set's name is 1 to 100 characters long: letters"),
        (SPACE_NAME_PATTERN, "a search space's name has only letters"),
        ("^https?://", "String should match pattern '^https?://'"),
    ],
)
def test_what_a_name_may_be_is_said_in_words(pattern: str, msg: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python("a/b")
    (error,) = field_errors(caught.value, "path", "name")
    assert error.loc == ["path", "name"]
    assert error.msg.startswith(msg)


def test_a_body_that_is_no_json_is_told_what_to_send() -> None:
    detail = {"type": "json_invalid", "loc": ("body", 1), "msg": "JSON decode error", "ctx": {"error": "Expecting x"}}
    (error,) = from_details([detail])
    assert error.loc == ["body"]
    assert error.msg == "the body is no JSON (Expecting x at position 1); send one JSON object in curly braces"


@pytest.mark.parametrize("wrong", [{"epochs": True}, {"gcn_hidden_sizes": [True, 512]}, {"learning_rate": False}])
def test_booleans_are_no_numbers(wrong: dict[str, object]) -> None:
    (error,) = errors_of({"dataset": "x", **wrong})
    assert error.loc == ["body", *wrong]
    assert "write numbers as numbers" in error.msg


def test_booleans_where_they_belong() -> None:
    assert RetrainingRequest.model_validate({"from_supernet": True}).from_supernet
    with pytest.raises(ValidationError, match="epochs"):
        RetrainingRequest.model_validate({"epochs": True})
