"""What Prometheus can ask: requests by route, and searches and steps by state."""

from collections.abc import Iterator

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy import Engine

from app.db import searches
from app.db.engine import transaction
from app.db.models import SEARCH_STATES


class StateCollector(Collector):
    """Counts searches and steps in the database whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics without asking the database."""
        yield GaugeMetricFamily("nasatlas_searches", "Searches by state.", labels=["state"])
        yield GaugeMetricFamily("nasatlas_steps", "Steps by kind and state.", labels=["kind", "state"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the current numbers; a state without searches is 0."""
        with transaction(self._engine) as session:
            by_state, by_step = searches.states_count(session)
        of_searches, of_steps = self.describe()
        for state in SEARCH_STATES:
            of_searches.add_metric([state], by_state.get(state, 0))
        for (kind, state), num_steps in sorted(by_step.items()):
            of_steps.add_metric([kind, state], num_steps)
        yield of_searches
        yield of_steps


def install_metrics(app: FastAPI, engine: Engine) -> None:
    """Count and time the application's requests, in a registry of its own (one process may hold several)."""
    registry = CollectorRegistry()
    registry.register(StateCollector(engine))
    Instrumentator(
        registry=registry,
        excluded_handlers=["^/metrics$", "^/healthz$", "^/readyz$"],
        should_exclude_streaming_duration=True,
    ).instrument(app)
    app.state.metrics = registry
