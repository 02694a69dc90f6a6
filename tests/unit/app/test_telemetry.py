"""Traces: nothing of them is imported unless somebody wants them, and then requests and steps are sent."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from app import telemetry
from app.settings import Settings


class Collector:
    """Takes traces, and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, dict[str, str | int]]] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_resource in request.resource_spans:
            service = next(a.value.string_value for a in of_resource.resource.attributes if a.key == "service.name")
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    values = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
                    self.spans.append((f"{path} {service}", span.name, values))


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


def test_off_is_not_imported() -> None:
    script = (
        "import sys, app.main, worker.step_run\nfrom app import telemetry\nfrom app.settings import Settings\n"
        "assert telemetry.span_maker(Settings(), 'x') is telemetry.no_span\n"
        # the redis client imports the SDK's metrics by itself where they are installed
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    config = telemetry.of_requests(telemetry.tracer_provider(Settings(), "nasatlas-api"))
    assert not any(config[name] for name in ("tracing", "metrics", "logs", "auto_configure"))  # type: ignore[literal-required]


def test_steps_are_sent(collector: Collector) -> None:
    provider = telemetry.tracer_provider(Settings(otlp_endpoint=f"{collector.url}/"), "nasatlas-worker")
    assert provider is not None
    with telemetry.spans_of(provider)("fit_gcn", {"nasatlas.search_id": "s", "nasatlas.attempt": 2}):
        pass
    provider.shutdown()
    assert collector.spans == [
        ("/v1/traces nasatlas-worker", "fit_gcn", {"nasatlas.search_id": "s", "nasatlas.attempt": 2})
    ]


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector", ""])
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="otlp_endpoint"):
        Settings(otlp_endpoint=endpoint)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(telemetry.TelemetryNotInstalledError, match=r"nasatlas\[otel\]"):
        telemetry.tracer_provider(Settings(otlp_endpoint="http://127.0.0.1:4318"), "nasatlas-api")
