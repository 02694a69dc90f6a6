"""The fixtures themselves: every test gets a database of its own."""

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from app.embedded.valkey import redis_py_url


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_its_own_empty_database(empty_database_url: str, attempt: int) -> None:
    with psycopg.connect(_address(empty_database_url)) as connection:
        connection.execute("CREATE TABLE only_here (attempt int)")
        connection.execute("INSERT INTO only_here VALUES (%s)", (attempt,))
        assert connection.execute("SELECT attempt FROM only_here").fetchall() == [(attempt,)]


def test_broker_answers(broker_url: str) -> None:
    with redis.Redis.from_url(redis_py_url(broker_url)) as client:
        assert client.ping()
