"""Traces for OpenTelemetry, off by default: without ``NASATLAS_OTLP_ENDPOINT`` what sends them is not even imported.

The API's spans are those that FastAPI makes by itself, a worker's are its steps. Neither metrics (Prometheus has them)
nor logs (they are on standard output) are sent, and no exception's message, which may quote what a caller sent.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from app.settings import Settings

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

Span = Callable[[str, Mapping[str, str | int]], AbstractContextManager[Any]]
"""Takes a name and attributes, and gives a context that is a span."""

_TIMEOUT_S = 2
"""A collector that is away must not hold up the end of a process."""

_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})


class TelemetryNotInstalledError(RuntimeError):
    """Traces are asked for, but what sends them is not installed."""


def tracer_provider(settings: Settings, service_name: str) -> "TracerProvider | None":
    """Return what makes and sends spans in the background; None where nobody wants them.

    Raises:
        TelemetryNotInstalledError: If the extra ``otel`` is missing.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TelemetryNotInstalledError(
            "NASATLAS_OTLP_ENDPOINT is set, but what sends traces is not installed: pip install 'nasatlas[otel]', "
            "or unset it"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def of_requests(provider: "TracerProvider | None") -> "TelemetryConfig":
    """Return FastAPI's own telemetry settings: one span per request, or nothing, whatever the environment says."""
    return {
        "tracer_provider": provider,
        "tracing": provider is not None,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in _UNTRACED,
    }


def no_span(name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Any]:
    """Make no span."""
    return nullcontext()


def span_maker(settings: Settings, service_name: str) -> Span:
    """Return what makes the spans of a program that is no web service.

    Raises:
        TelemetryNotInstalledError: If the extra ``otel`` is missing.
    """
    provider = tracer_provider(settings, service_name)
    return no_span if provider is None else spans_of(provider)


def spans_of(provider: "TracerProvider") -> Span:
    """Return what makes spans that a provider sends."""
    tracer = provider.get_tracer("nasatlas")

    def span(name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Any]:
        return tracer.start_as_current_span(name, attributes=dict(attributes), record_exception=False)

    return span
