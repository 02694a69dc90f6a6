"""The OpenAPI document: every operation says what it does, and shows what goes in and comes out."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi_pagination.cursor import CursorPage
from pydantic import BaseModel

from app.api.pages import Page
from app.main import create_app
from app.schemas import (
    data_set,
    device,
    events,
    examples,
    lookup,
    operations,
    retraining,
    search,
    search_request,
    webhook,
)
from app.settings import Settings

MODULES = (data_set, device, events, lookup, operations, retraining, search, search_request, webhook)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    # the document needs no database: nobody connects to this one
    return create_app(Settings(database_url="postgresql+psycopg://nobody@localhost/nothing", authentication="none"))


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def has_example(document: dict[str, Any], media: dict[str, Any]) -> bool:
    """Whether a body is shown by an example, its own or its schema's; what is binary cannot be shown."""
    schema = media.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    is_binary = schema.get("format") == "binary"
    return is_binary or any(found.get(name) for found in (media, schema) for name in ("example", "examples"))


def test_every_operation_has_a_summary_and_a_description(document: dict[str, Any]) -> None:
    silent = [
        name
        for name, operation in operations_of(document)
        if not operation.get("summary") or not operation.get("description")
    ]
    assert silent == []
    assert len(list(operations_of(document))) >= 25


def test_every_request_body_has_an_example(document: dict[str, Any]) -> None:
    bodies = {
        f"{name} {kind}": has_example(document, media)
        for name, operation in operations_of(document)
        for kind, media in operation.get("requestBody", {}).get("content", {}).items()
    }
    assert [name for name, shown in bodies.items() if not shown] == []
    assert "POST /search application/json" in bodies


def test_every_success_has_an_example(document: dict[str, Any]) -> None:
    missing = []
    for name, operation in operations_of(document):
        answers = {status: answer for status, answer in operation["responses"].items() if status < "300"}
        assert answers or "303" in operation["responses"], f"{name} has no success"
        for status, answer in answers.items():
            shown = [has_example(document, media) for media in answer.get("content", {}).values()]
            if not all(shown) or (not shown and status != "204"):
                missing.append(f"{name} {status}")
    assert missing == []


def documented_models() -> list[type[BaseModel]]:
    found = {
        model
        for module in MODULES
        for name, model in vars(module).items()
        if isinstance(model, type) and name[0] != "_"
    }
    return sorted((m for m in found if issubclass(m, BaseModel) and examples_of(m)), key=lambda m: m.__name__)


def examples_of(model: type[BaseModel]) -> list[Any]:
    extra = model.model_config.get("json_schema_extra")
    return list(extra["examples"]) if isinstance(extra, dict) else []  # type: ignore[arg-type]


@pytest.mark.parametrize("model", documented_models(), ids=lambda model: model.__name__)
def test_examples_are_what_they_illustrate(model: type[BaseModel]) -> None:
    for example in examples_of(model):
        parsed = model.model_validate(example)
        # of an answer nothing is left out; what a request leaves out has a default
        if not model.__name__.endswith("Request"):
            assert set(example) == set(type(parsed).model_fields), model


def test_pages_are_what_they_illustrate() -> None:
    for view, item in ((search.SearchSummary, examples.SUMMARY), (search.PairView, examples.PAIR)):
        page: CursorPage[Any] = Page[view].model_validate(examples.page_of(item))  # type: ignore[valid-type]
        assert set(examples.page_of(item)) == set(type(page).model_fields)
