"""Rate limits while the broker is there, away, and back."""

import uuid

import pytest
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import RedisError
from structlog.testing import capture_logs

from app.errors import TooManyRequestsError
from app.services import rate_limit
from app.services.callers import EVERYONE, Caller, with_implied
from app.services.rate_limit import RateLimiter


def caller(per_minute: int | None) -> Caller:
    return Caller("alice", with_implied(["read"]), uuid.uuid4(), per_minute)


@pytest.fixture
def limiter() -> RateLimiter:
    limiter = RateLimiter("redis://127.0.0.1:1/0")
    limiter._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
    return limiter


def test_a_key_has_its_requests_and_no_more(limiter: RateLimiter) -> None:
    alice, bob = caller(2), caller(2)
    for _ in range(2):
        limiter.check(alice)
    with pytest.raises(TooManyRequestsError, match="2 requests a minute") as caught:
        limiter.check(alice)
    assert 1 <= caught.value.retry_after_s <= 60
    limiter.check(bob)


@pytest.mark.parametrize("unlimited", [caller(None), EVERYONE])
def test_keys_without_a_limit_are_not_counted(unlimited: Caller) -> None:
    for _ in range(100):
        RateLimiter("redis://127.0.0.1:1/0").check(unlimited)


def test_nothing_is_limited_without_a_broker() -> None:
    limiter = RateLimiter(None)
    for _ in range(3):
        limiter.check(caller(1))


def test_a_broker_that_is_away_lets_through_and_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, alice = RateLimiter("redis://:hidden@127.0.0.1:1/0"), caller(1)
    with capture_logs() as logs:
        for pause_s in (60.0, 0.0, 0.0, 0.0):
            monkeypatch.setattr(rate_limit, "_PAUSE_S", pause_s)
            limiter._ask_again_at = 0.0
            for _ in range(3):
                limiter.check(alice)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "hidden" not in str(logs)


def test_while_it_is_away_nobody_waits_for_it(limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def away(*_: object) -> int:
        asked.append(1)
        raise RedisError("away")

    monkeypatch.setattr(limiter, "_count", away)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 60.0)
    for _ in range(10):
        limiter.check(caller(1))
    assert len(asked) == 1


def test_one_that_is_back_counts_again(limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> int:
        raise RedisError("away")

    alice = caller(1)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.0)
    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            patched.setattr(limiter, "_count", away)
            limiter.check(alice)
        limiter.check(alice)
        with pytest.raises(TooManyRequestsError):
            limiter.check(alice)
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
