"""The embedded broker before it is started: its address. The server itself is in the integration tests."""

from pathlib import Path

import pytest
import redis

from app.embedded.errors import EmbeddedStackError
from app.embedded.valkey import EmbeddedValkey, redis_py_url


def test_too_long_socket_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStackError, match="too long for unix sockets"):
        EmbeddedValkey(tmp_path / "valkey", tmp_path / ("long" * 25)).start()


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("redis+socket:///tmp/x/valkey.sock", "unix:///tmp/x/valkey.sock"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:secret@host/1", "rediss://user:secret@host/1"),
    ],
)
def test_redis_py_url(broker: str, expected: str) -> None:
    assert redis_py_url(broker) == expected


def test_an_awkward_directory_is_part_of_the_address(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path / "valkey", tmp_path / "a b#?ü")
    assert " " not in valkey.url
    with redis.Redis.from_url(redis_py_url(valkey.url)) as client:
        assert client.connection_pool.connection_kwargs["path"] == str(valkey.socket_path)
