"""Whether the service needs API keys, and whether it may start at all."""

from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app.db import api_keys as keys_db
from app.db.engine import transaction
from app.settings import Settings

_HOW_TO = (
    "make one with `nasatlas keys create NAME --owner OWNER --scope admin` on the same database "
    "(NASATLAS_DATABASE_URL, or the same NASATLAS_STATE_DIR)"
)


class UnsafeToStartError(Exception):
    """Nobody could use the service, or anybody could."""


def check_may_start(engine: Engine, settings: Settings) -> None:
    """Check, where API keys are needed, that somebody has one that may administer the service.

    Raises:
        UnsafeToStartError: If nobody has, or the database cannot tell.
    """
    if not settings.keys_required():
        return
    why = (
        "NASATLAS_AUTHENTICATION is keys"
        if settings.authentication == "keys"
        else f"the API listens on {settings.host}, which others can reach"
    )
    try:
        with transaction(engine) as session:
            if keys_db.has_valid_admin(session):
                return
    except ProgrammingError:
        raise UnsafeToStartError(
            f"{why}, so callers need API keys, but the database has no table of keys yet: bring its schema up to date "
            "(python -m app.db.migrate)"
        ) from None
    except SQLAlchemyError as error:
        raise UnsafeToStartError(
            f"{why}, so callers need API keys, but the database cannot be reached ({type(error).__name__}); see "
            "NASATLAS_DATABASE_URL"
        ) from None
    raise UnsafeToStartError(
        f"{why}, so callers need API keys, but there is no valid key with the scope admin: {_HOW_TO}. Listen on "
        "127.0.0.1 to do without keys"
    )
