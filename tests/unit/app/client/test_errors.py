"""What the service says when it says no, as exceptions that carry it."""

from typing import Any

import pytest

from app.client.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NasAtlasError,
    NotFoundError,
    ProblemError,
    SearchEndedError,
    ServiceError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
    problem_error,
)
from app.schemas.examples import SEARCH
from app.schemas.search import SearchView
from tests.unit.app.client.answers import ID, always


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, ProblemError),
        (422, InvalidRequestError),
        (429, TooManyRequestsError),
        (500, ServiceError),
        (503, ServiceError),
    ],
)
def test_problems_are_exceptions_that_carry_them(status: int, kind: type[ProblemError]) -> None:
    problem = {"title": "T", "detail": "d", "errors": [{"loc": ["body", "seed"], "msg": "m"}], "retry_after_s": 60}
    with always(status, problem) as atlas, pytest.raises(NasAtlasError) as caught:
        atlas.search(ID)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.problem, error.title, error.detail) == (status, problem, "T", "d")
    assert (str(error), error.errors[0]["msg"], error.retry_after_s) == ("T: d", "m", 60)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ({"title": "No such search"}, "No such search"),
        ({"title": "No such search", "detail": ""}, "No such search"),
        ({}, "status 404"),
        ({"detail": "it was deleted"}, "status 404: it was deleted"),
    ],
)
def test_a_problem_says_what_there_is_to_say(problem: dict[str, Any], text: str) -> None:
    """A proxy in between may answer with other JSON than the service does."""
    error = problem_error(404, problem)
    assert str(error) == text
    assert (error.errors, error.retry_after_s) == ([], None)


@pytest.mark.parametrize("errors", [None, []])
def test_a_problem_without_reasons_has_none(errors: Any) -> None:
    assert problem_error(422, {"errors": errors}).errors == []


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ("failed", "the images are gone", f"search {ID} has failed: the images are gone"),
        ("cancelled", None, f"search {ID} was cancelled"),
    ],
)
def test_a_search_that_ended_otherwise(state: str, error: str | None, says: str) -> None:
    search = SearchView.model_validate({**SEARCH, "state": state, "error": error})
    assert str(SearchEndedError(search)) == says


def test_who_did_not_answer() -> None:
    error = UnreachableError("http://service", "refused")
    assert (str(error), error.url, error.reason) == (
        "no answer from http://service: refused",
        "http://service",
        "refused",
    )
