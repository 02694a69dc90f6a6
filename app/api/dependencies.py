"""What routes ask for: the database, the settings, and the errors that every route can answer with."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi_rfc9457 import Problem
from fastapi_rfc9457.server import problems
from sqlalchemy import Engine

from app.errors import InternalError, InvalidRequestError, UnavailableError
from app.settings import Settings


# async, though they wait for nothing: FastAPI sends plain functions to a thread, which costs more than a lookup's query
async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


AppSettings = Annotated[Settings, Depends(_settings)]
Database = Annotated[Engine, Depends(_engine)]


def errors(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that can answer with these problems, besides those of every route."""
    return problems(*kinds, InvalidRequestError, InternalError, UnavailableError)
