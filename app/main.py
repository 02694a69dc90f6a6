"""The API application: ``uvicorn --factory app.main:served_app``."""

import gc
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi_pagination import add_pagination
from fastapi_rfc9457.server import get_problem_docs_router

from app import telemetry
from app.api import architectures, data_sets, devices, events, login, lookup, operations, search
from app.api.authentication import COOKIE
from app.api.body_limit import BodyLimitMiddleware
from app.api.dependencies import look_at_what_is_asked
from app.api.events import NothingMoreToCome, ServerStop, end_of_events
from app.api.metrics import install_metrics
from app.api.problem_handlers import answer_crashes, install_problem_handlers
from app.api.security_headers import SecurityHeadersMiddleware
from app.dashboard.install import install_pages
from app.db.engine import get_engine
from app.logging import configure_logging
from app.server_loop import NEVER_STARTS
from app.services.access import UnsafeToStartError, check_may_start
from app.services.rate_limit import RateLimiter
from app.settings import Settings, get_settings

_DESCRIPTION = """
Fits the whole search space of a weight-sharing neural architecture search with a graph convolutional network, and
answers "the best architecture under these limits" from its tables.

Submit a search with `POST /search`, follow it with `GET /search/{id}` or `/events`, ask `GET /lookup?max_madds=400`.
Accuracies are fractions in [0, 1]; limits are in millions. Every error is an RFC 9457 problem that says what to do.
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    _spare_the_garbage_collector()
    with app.state.server_stop.listening():
        yield
    app.state.engine.dispose()
    if app.state.traces is not None:
        app.state.traces.shutdown()


def _spare_the_garbage_collector() -> None:
    """Take what is loaded for good out of its walks, each of which would hold all requests up for 0.2 s."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def served_app() -> FastAPI:
    """Return the application for a server, whose processes are not to be started again and again in vain.

    Raises:
        SystemExit: If it cannot be made; why is on standard error, without a traceback where that would not help.
    """
    try:
        return create_app()
    except UnsafeToStartError as error:
        sys.stderr.write(f"NAS Atlas does not start: {error}.\n")
    except Exception:
        traceback.print_exc()
    raise SystemExit(NEVER_STARTS)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application, by default on the settings of the environment.

    Raises:
        UnsafeToStartError: If callers need API keys and nobody has one.
    """
    settings = settings or get_settings()
    configure_logging(settings.log_level, settings.log_format)
    traces = telemetry.tracer_provider(settings, "nasatlas-api")
    app = FastAPI(
        title="NAS Atlas",
        version=version("nasatlas"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=telemetry.of_requests(traces),
    )
    app.state.traces = traces
    app.state.settings = settings
    app.state.server_stop = ServerStop()
    app.state.engine = get_engine(settings.required_database_url())
    app.state.rate_limiter = RateLimiter(settings.broker_url)
    check_may_start(app.state.engine, settings)
    security = _documented_security() if settings.keys_required() else []
    # lookups first: routes are tried in this order, and these are what people wait for
    for router in (lookup.router, search.router, architectures.router, events.router, devices.router, data_sets.router):
        app.include_router(router, dependencies=[*security, Depends(look_at_what_is_asked)])
    app.include_router(login.router)
    app.include_router(operations.router)
    install_pages(app)
    app.include_router(get_problem_docs_router(), prefix="/problems", include_in_schema=False)
    install_problem_handlers(app)
    app.add_exception_handler(NothingMoreToCome, end_of_events)
    add_pagination(app)
    # the last one added is the outermost
    app.add_middleware(BodyLimitMiddleware, max_upload_bytes=settings.max_upload_bytes)
    install_metrics(app, app.state.engine)
    answer_crashes(app)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(CorrelationIdMiddleware)
    return app


def _documented_security() -> list[Any]:
    """Tell readers of the OpenAPI document how to say who they are; ``app.api.authentication`` looks at it."""
    bearer = HTTPBearer(description="An API key, `nas_...`.", auto_error=False)
    cookie = APIKeyCookie(name=COOKIE, description="Set by `POST /login`.", auto_error=False)
    return [Depends(bearer), Depends(cookie)]
