"""Quotas as they are configured. What they count, and that ten requests at once share one: integration tests."""

from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from app.services.quotas import Quotas
from app.settings import Settings


class NoDatabase:
    """Fails the test if it is asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the database is asked ({name}) though nothing is limited")


def test_without_a_limit_nobody_waits_for_anybody() -> None:
    session = cast(Session, NoDatabase())
    Quotas().lock(session, "alice")
    Quotas().check(session, "alice", num_new_rows=10**12)


@pytest.mark.parametrize("quota", ["max_open", "max_rows", "max_artifact_bytes"])
def test_any_limit_has_an_owners_submissions_wait(quota: str) -> None:
    with pytest.raises(AssertionError, match="the database is asked"):
        Quotas(**{quota: 10**9}).lock(cast(Session, NoDatabase()), "alice")


def test_each_setting_is_the_quota_of_its_name() -> None:
    settings = Settings(max_open_searches_per_owner=1, max_rows_per_owner=2, max_artifact_bytes_per_owner=3)
    assert Quotas.of(settings) == Quotas(max_open=1, max_rows=2, max_artifact_bytes=3)
    assert Quotas.of(Settings()) == Quotas()
