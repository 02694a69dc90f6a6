"""The Celery queue as the service sees it: a message is only a wake-up; the truth is in PostgreSQL."""

from collections.abc import Iterable
from functools import lru_cache

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app.settings import Settings, get_settings

RUN_STEP = "nasatlas.run_step"
"""Name of the task that runs one step."""

VISIBILITY_TIMEOUT_S = 14 * 24 * 3600
"""kombu never renews it: a task longer than this would be delivered a second time."""

log = structlog.get_logger(__name__)


def make_celery(settings: Settings) -> Celery:
    """Return a Celery application on the configured broker, with what sender and worker must agree on."""
    celery = Celery("nasatlas", broker=settings.required_broker_url())
    celery.conf.update(
        task_default_queue="steps",
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": 2,
            "socket_timeout": 10,
        },
        task_publish_retry=False,
    )
    return celery


@lru_cache(maxsize=1)
def _sender() -> Celery:
    celery = make_celery(get_settings())
    # A broker that is away must not hold up a request: the reaper sends the wake-up again. These are the options that
    # kombu reads when it connects; without them it tries for six seconds.
    celery.conf.broker_transport_options |= {
        "max_retries": 0,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    }
    return celery


def wake(step_ids: Iterable[int]) -> None:
    """Send one wake-up per step. A wake-up that cannot be sent is logged; the reaper sends it again later."""
    for step_id in step_ids:
        try:
            _sender().send_task(RUN_STEP, args=[step_id], retry=False)
        except (OperationalError, OSError) as error:
            log.warning("wake-up not sent; the reaper will", step_id=step_id, error=str(error))
            return
