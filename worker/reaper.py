"""The reaper: takes back the steps of silent workers, wakes what was lost, and tidies up; Celery beat sets its pace.

It has a queue and a process of its own, without torch (``celery -A worker.reaper worker --beat --queues reap --pool
solo``): behind hours of training in the workers' queue it would come too late. Webhooks are delivered by a thread of
its own, since receivers may be slow.
"""

import threading

from celery import Celery
from celery.signals import setup_logging

from app.db.engine import get_engine
from app.logging import configure_logging
from app.queue import make_celery, wake
from app.settings import get_settings
from worker.retention import Retention
from worker.store import PostgresStore
from worker.webhook_courier import WebhookCourier

REAP = "nasatlas.reap"
TIDY = "nasatlas.tidy"
DELIVER = "nasatlas.deliver_webhooks"

TIDY_INTERVAL_S = 30.0
DELIVER_INTERVAL_S = 2.0

_delivering = threading.Lock()


def make_reaper_app() -> Celery:
    """Return the application with its schedule."""
    settings = get_settings()
    celery = make_celery(settings)
    celery.conf.update(
        task_routes={REAP: {"queue": "reap"}, TIDY: {"queue": "reap"}, DELIVER: {"queue": "reap"}},
        beat_schedule={
            "reap": {"task": REAP, "schedule": settings.reap_s, "options": {"expires": settings.reap_s}},
            "tidy": {"task": TIDY, "schedule": TIDY_INTERVAL_S, "options": {"expires": TIDY_INTERVAL_S}},
            "deliver": {"task": DELIVER, "schedule": DELIVER_INTERVAL_S, "options": {"expires": DELIVER_INTERVAL_S}},
        },
    )
    return celery


@setup_logging.connect
def _use_our_logging(**_: object) -> None:
    """Celery's own logging set-up would print a second, unstructured copy."""
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)


app = make_reaper_app()


@app.task(name=REAP)
def reap() -> None:
    """Take back the steps of silent workers, and wake steps whose wake-up was lost."""
    settings = get_settings()
    store = PostgresStore(get_engine(settings.required_database_url()), lease_s=settings.lease_s)
    wake(store.reap(max_attempts=settings.max_attempts, rewake_s=settings.rewake_s))


@app.task(name=TIDY)
def tidy() -> None:
    """Delete outdated searches, the artifacts of deleted ones, and measure the artifacts of the others."""
    settings = get_settings()
    engine = get_engine(settings.required_database_url())
    Retention(engine, settings.artifacts(), settings.retention_days).sweep()


@app.task(name=DELIVER)
def deliver_webhooks() -> None:
    """Begin to deliver the webhooks that are due, unless that is under way."""
    if _delivering.acquire(blocking=False):
        # a daemon: what is cut off by a shutdown is tried again by whoever comes next
        threading.Thread(target=_deliver, name="webhooks", daemon=True).start()


def _deliver() -> None:
    try:
        settings = get_settings()
        if settings.webhook_secret is None:
            return
        engine = get_engine(settings.required_database_url())
        courier = WebhookCourier(engine, settings.webhook_secret.get_secret_value(), settings.webhook_allowed_hosts)
        while courier.deliver_due():
            pass
    finally:
        _delivering.release()
