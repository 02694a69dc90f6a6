"""Wake-ups: sent on a real broker, and given up at once where there is none."""

import json
import socket
from collections.abc import Iterator

import pytest
import redis
import structlog

from app import queue
from app.embedded.valkey import redis_py_url
from app.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def fresh_sender() -> Iterator[None]:
    get_settings.cache_clear()
    queue._sender.cache_clear()
    yield
    get_settings.cache_clear()
    queue._sender.cache_clear()


@pytest.fixture
def dead_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A port that refuses connections: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NASATLAS_BROKER_URL", f"redis://127.0.0.1:{bound.getsockname()[1]}/0")
        yield


def test_one_message_per_step(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_BROKER_URL", broker_url)
    with redis.Redis.from_url(redis_py_url(broker_url)) as client:
        client.delete("steps")
        queue.wake([5, 6])
        messages = [json.loads(raw) for raw in client.lrange("steps", 0, -1)]
        client.delete("steps")
    assert {message["headers"]["task"] for message in messages} == {queue.RUN_STEP}
    assert sorted(message["headers"]["argsrepr"] for message in messages) == ["[5]", "[6]"]


def test_nothing_to_wake_needs_no_broker(dead_broker: None) -> None:
    queue.wake([])


def test_a_broker_that_is_away_is_logged_once_and_holds_nothing_up(
    dead_broker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kombu's own default is to try for seconds, with pauses: an API request would wait for that."""

    def pause(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s for a broker that is away")

    monkeypatch.setattr("kombu.utils.functional.sleep", pause)
    with structlog.testing.capture_logs() as logs:
        queue.wake([5, 6, 7])
    assert [(entry["log_level"], entry["step_id"]) for entry in logs] == [("warning", 5)]


def test_messages_of_long_tasks_are_not_delivered_twice() -> None:
    celery = queue.make_celery(Settings(broker_url="redis://localhost/0"))
    assert celery.conf.broker_transport_options["visibility_timeout"] >= 7 * 24 * 3600
    assert celery.conf.task_ignore_result
    assert celery.conf.accept_content == ["json"]
