"""What Prometheus can ask: requests by route, how fast lookups are, and what is going on, from the database.

Whatever the workers did is read from PostgreSQL when Prometheus asks, so every API process says the same. What the API
processes did themselves is added up over all of them where ``PROMETHEUS_MULTIPROC_DIR`` names a directory that they
share (``uvicorn --workers``); without it each answers for itself, as behind a scraper that asks each of them.

No label takes a value that a caller can make up: routes are templates, methods and states a few known ones.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator import metrics as instrumentations
from prometheus_fastapi_instrumentator.metrics import Info
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import operations, searches
from app.db.engine import transaction
from app.db.models import SEARCH_STATES, STEP_KINDS

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own; it reads it when it is imported, so it cannot be one of our settings."""

LOOKUP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_COUNTERS: tuple[tuple[operations.Counter, str, tuple[str, ...]], ...] = (
    ("lease_expiries", "Steps taken back from workers that were silent for longer than their lease.", STEP_KINDS),
    ("steps_done", "Steps whose result was stored.", STEP_KINDS),
    ("evaluations", "Sub-networks that were evaluated.", ("evaluate_shard", "reevaluate_shard")),
    ("training_images", "Images trained on, each time one was seen.", ("train_supernet", "train_standalone")),
)
"""What only ever rises: the counter, what it counts, and the kinds of steps that can add to it."""


class Metrics:
    """All metrics; what ``generate_latest`` reads."""

    def __init__(self, requests: CollectorRegistry, engine: Engine) -> None:
        """Read what this process's requests are counted in, and the database."""
        self._requests, self._engine = requests, engine

    def collect(self) -> Iterator[Metric]:
        """Yield the current numbers; what nothing is known of has no sample."""
        yield from self._of_requests()
        with transaction(self._engine) as session:
            found = [*_by_state(session), *_counters(session), *_queue(session), *_work(session)]
        yield from found

    def _of_requests(self) -> Iterable[Metric]:
        """Requests of this process, or of all of them."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return self._requests.collect()
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return everybody.collect()


def _by_state(session: Session) -> Iterator[Metric]:
    by_state, by_step = searches.states_count(session)
    of_searches = GaugeMetricFamily("nasatlas_searches", "Searches by state.", labels=["state"])
    for state in SEARCH_STATES:
        of_searches.add_metric([state], by_state.get(state, 0))
    of_steps = GaugeMetricFamily("nasatlas_steps", "Steps by kind and state.", labels=["kind", "state"])
    for (kind, state), num_steps in sorted(by_step.items()):
        of_steps.add_metric([kind, state], num_steps)
    yield of_searches
    yield of_steps


def _counters(session: Session) -> Iterator[Metric]:
    values = operations.counters(session)
    for name, description, kinds in _COUNTERS:
        family = CounterMetricFamily(f"nasatlas_{name}", description, labels=["kind"])
        for kind in kinds:
            family.add_metric([kind], values.get((name, kind), 0.0))
        yield family


def _queue(session: Session) -> Iterator[Metric]:
    queue = operations.queue(session)
    yield _gauge("nasatlas_queue_depth", "Steps that a worker could take now.", queue.depth)
    yield _gauge("nasatlas_queue_oldest_seconds", "How long the first of them has been waiting.", queue.oldest_s)


def _work(session: Session) -> Iterator[Metric]:
    yield _gauge(
        "nasatlas_training_images_per_second",
        "Speed of a supernet training at work, over those that ended within the last hour.",
        operations.training_images_per_s(session),
    )
    yield _gauge(
        "nasatlas_evaluations_per_second",
        "Sub-networks a worker at work evaluates, over the steps that ended within the last hour.",
        operations.evaluations_per_s(session),
    )
    taus = operations.recent_taus(session)
    family = GaugeMetricFamily(
        "nasatlas_held_out_tau", "Kendall's tau on held-out pairs, of the latest 20 tables.", labels=["of"]
    )
    if taus:
        for name, value in (("latest", taus[0]), ("lowest", min(taus)), ("mean", sum(taus) / len(taus))):
            family.add_metric([name], value)
    yield family


def _gauge(name: str, description: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, description)
    if value is not None:
        family.add_metric([], value)
    return family


def install_metrics(app: FastAPI, engine: Engine) -> None:
    """Count and time the application's requests, in a registry of its own (one process may hold several)."""
    registry = CollectorRegistry()
    default = instrumentations.default(should_exclude_streaming_duration=True, registry=registry)
    assert default is not None, "the registry is new"
    Instrumentator(registry=registry, excluded_handlers=["^/metrics$", "^/healthz$", "^/readyz$"]).add(
        _with_known_method(default), _lookup_latency(registry)
    ).instrument(app)
    app.state.metrics = Metrics(registry, engine)


def render(app: FastAPI) -> bytes:
    """Return all metrics in Prometheus's text format."""
    metrics: Metrics = app.state.metrics
    return generate_latest(metrics)


def _with_known_method(instrumentation: Callable[[Info], None]) -> Callable[[Info], None]:
    """Call methods that HTTP does not have by one name: a caller may make up as many as there are words."""

    def observe(info: Info) -> None:
        if info.method not in _METHODS:
            info.method = "other"
        instrumentation(info)

    return observe


def _lookup_latency(registry: CollectorRegistry) -> Callable[[Info], None]:
    latency = Histogram(
        "nasatlas_lookup_duration_seconds",
        "How long answers to lookups take in the API.",
        ["route"],
        buckets=LOOKUP_BUCKETS_S,
        registry=registry,
    )

    def observe(info: Info) -> None:
        if info.modified_handler in ("/lookup", "/lookup/pareto"):
            latency.labels(info.modified_handler).observe(info.modified_duration)

    return observe
