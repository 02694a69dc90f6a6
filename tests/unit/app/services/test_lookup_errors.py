"""Why a lookup has nothing to answer from. What a search that is not ready says is in the integration tests."""

import uuid

from app.errors import NoTableError, SearchNotFoundError
from app.services.lookup_errors import nothing_to_ask, only_a_job


def test_a_search_that_is_not_there_is_named() -> None:
    search_id = uuid.uuid4()
    error = nothing_to_ask(search_id)
    assert isinstance(error, SearchNotFoundError)
    assert error.detail == f"there is no search {search_id}; GET /search lists those there are"


def test_a_service_without_any_table_says_how_to_get_one() -> None:
    error = nothing_to_ask(None)
    assert isinstance(error, NoTableError)
    assert "submit one with POST /search" in error.detail
    assert "search_id and round_index" in error.detail


def test_a_job_is_no_search() -> None:
    job_id = uuid.uuid4()
    assert f"{job_id} is no search but a job" in only_a_job(job_id).detail
