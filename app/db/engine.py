"""Engines and sessions. A session commits at the edge of a request or of a task, and nowhere else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

UTF8_CLIENT = {"client_encoding": "utf8"}
"""A database made without a locale (SQL_ASCII) would otherwise answer with bytes instead of text."""


@lru_cache(maxsize=8)
def get_engine(database_url: str) -> Engine:
    """Return the process's engine for a database; the API's processes share what one would take of its connections."""
    size = max(4, 16 // int(os.environ.get("WEB_CONCURRENCY") or 1))
    return create_engine(database_url, connect_args=UTF8_CLIENT, pool_pre_ping=True, pool_size=size, max_overflow=size)


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Open a session in one transaction: committed at the end, rolled back on any error."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def autocommit(engine: Engine) -> Iterator[Session]:
    """Open a session whose every statement is a transaction by itself: one round trip instead of three."""
    with engine.connect() as connection:
        settled = connection.execution_options(isolation_level="AUTOCOMMIT")
        with Session(settled, expire_on_commit=False) as session:
            yield session
