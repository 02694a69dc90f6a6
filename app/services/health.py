"""Whether the service can do its work: database, schema and broker."""

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.migrate import is_current
from app.errors import UnavailableError
from app.queue import make_celery
from app.settings import Settings

BROKER_TIMEOUT_S = 2


def check_ready(engine: Engine, settings: Settings) -> None:
    """Check everything that the service needs.

    Raises:
        UnavailableError: If something is missing; it names all that is.
    """
    missing, reasons = [], []
    try:
        if not is_current(engine):
            missing.append("migrations")
            reasons.append("the database schema is not the newest; run alembic upgrade head")
    except SQLAlchemyError:
        missing.append("database")
        reasons.append("the database cannot be reached; see NASATLAS_DATABASE_URL")
    try:
        with make_celery(settings).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT_S)
    except (BrokerError, OSError):
        missing.append("broker")
        reasons.append("the broker cannot be reached; see NASATLAS_BROKER_URL")
    if missing:
        raise UnavailableError(detail="; ".join(reasons), missing=missing)
