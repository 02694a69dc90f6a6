"""How often a key may ask: a sliding window in Redis, shared by all processes of the API."""

import time

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import RedisError

from app.embedded.valkey import redis_py_url
from app.errors import TooManyRequestsError
from app.services.callers import Caller

_TIMEOUT_S = 0.5
_PAUSE_S = 5.0
"""How long nobody waits for a broker that did not answer."""

log = structlog.get_logger(__name__)


class RateLimiter:
    """Counts the requests of each key. A broker that is away lets them through: the limit guards it, not the reverse.

    Args:
        broker_url: The broker's URL in kombu's form; None: nothing is limited.
    """

    def __init__(self, broker_url: str | None) -> None:
        self._limiter: SlidingWindowCounterRateLimiter | None = None
        if broker_url is not None:
            storage = RedisStorage(
                redis_py_url(broker_url),
                key_prefix="nasatlas-limits",
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
            )
            self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._is_away = False
        self._ask_again_at = 0.0

    def check(self, caller: Caller) -> None:
        """Count a request of a caller.

        Raises:
            TooManyRequestsError: If the key has had its requests of the last minute.
        """
        per_minute = caller.rate_limit_per_minute
        if self._limiter is None or per_minute is None or time.monotonic() < self._ask_again_at:
            return
        try:
            retry_after_s = self._count(self._limiter, str(caller.key_id), per_minute)
        except (RedisError, OSError) as error:
            self._note_away(error)
            return
        if self._is_away:
            self._is_away = False
            log.info("rate limits are counted again")
        if retry_after_s is not None:
            raise TooManyRequestsError(
                detail=f"this API key may make {per_minute} requests a minute; wait {retry_after_s} s, ask less often "
                "(GET /search/{id}/events tells of changes by itself), or ask for a key with a higher limit",
                limit=f"{per_minute} requests a minute",
                retry_after_s=retry_after_s,
            )

    def _count(self, limiter: SlidingWindowCounterRateLimiter, key_id: str, per_minute: int) -> int | None:
        item = RateLimitItemPerMinute(per_minute)
        if limiter.hit(item, key_id):
            return None
        reset_at = limiter.get_window_stats(item, key_id).reset_time
        return max(1, min(60, round(reset_at - time.time() + 0.5)))

    def _note_away(self, error: Exception) -> None:
        self._ask_again_at = time.monotonic() + _PAUSE_S
        if not self._is_away:
            self._is_away = True
            log.warning("rate limits are not counted while the broker is away", error=type(error).__name__)
