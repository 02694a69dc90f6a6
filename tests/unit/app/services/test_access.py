"""Whether the service may start: not where others reach it and nobody could administer it. Keys are in integration."""

import pytest
from sqlalchemy import Engine, create_engine

from app.services.access import UnsafeToStartError, check_may_start
from app.settings import Settings


@pytest.fixture
def database_away() -> Engine:
    return create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing", connect_args={"connect_timeout": 2})


@pytest.mark.parametrize(
    "settings", [Settings(host="127.0.0.1"), Settings(host="::1"), Settings(host="0.0.0.0", authentication="none")]
)
def test_where_no_keys_are_needed_the_database_is_not_even_asked(database_away: Engine, settings: Settings) -> None:
    check_may_start(database_away, settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Settings(host="0.0.0.0"), "the API listens on 0.0.0.0, which others can reach"),
        (Settings(host="atlas"), "the API listens on atlas, which others can reach"),
        (Settings(host="127.0.0.1", authentication="keys"), "NASATLAS_AUTHENTICATION is keys"),
    ],
)
def test_a_database_that_cannot_tell_is_no_reason_to_start(database_away: Engine, settings: Settings, why: str) -> None:
    with pytest.raises(UnsafeToStartError) as caught:
        check_may_start(database_away, settings)
    assert str(caught.value).startswith(f"{why}, so callers need API keys, but the database cannot be reached")
    assert "NASATLAS_DATABASE_URL" in str(caught.value)
