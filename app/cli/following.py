"""Follows a search until it is over."""

import contextlib
import time
from typing import Any

from app.cli.connection import Connection
from app.cli.console import Notices
from app.cli.errors import FAILED, UNREACHABLE, BusyError, CommandError
from app.cli.progress import display
from app.client.paths import search_path

POLL_S = 0.5
PATIENCE_S = 60.0
"""How long a service may be away (a restart) before a command gives up."""


def follow(connection: Connection, search_id: str, notices: Notices) -> dict[str, Any]:
    """Show a search's progress until it is over, and return it.

    Raises:
        CommandError: If it has failed or was cancelled, or the service is gone.
        KeyboardInterrupt: If the user has had enough; says before what becomes of the search.
    """
    try:
        with display(notices) as shown:
            while True:
                search = _read(connection, search_id)
                shown.show(search)
                if search["state"] in ("succeeded", "failed", "cancelled"):
                    break
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        if connection.stack is not None:
            # or it would go on by itself, before anything else, as soon as a service runs here again
            with contextlib.suppress(CommandError):
                connection.api.post(search_path(search_id, "cancel"))
        notices.say(_farewell(connection, search_id))
        raise
    except CommandError as error:
        raise CommandError(error.exit_code, error.message, (*error.details, _kept(search_id))) from error
    if search["state"] == "succeeded":
        return search
    ending = f"has failed: {search['error']}" if search["state"] == "failed" else "was cancelled"
    raise CommandError(FAILED, f"search {search_id} {ending}", (_kept(search_id),))


def _kept(search_id: str) -> str:
    return f"search {search_id} is kept, with everything found so far; go on with: nasatlas resume {search_id}"


def _read(connection: Connection, search_id: str) -> dict[str, Any]:
    """Read the search; a service that is away for a moment is waited for, one of our own only while it runs."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection.check()
        try:
            search: dict[str, Any] = connection.api.get(search_path(search_id))
            return search
        except CommandError as error:
            pause_s = _pause_s(error)
            if pause_s is None or time.monotonic() > deadline:
                raise
            time.sleep(pause_s)


def _pause_s(error: CommandError) -> float | None:
    """When it is worth asking again; None: never."""
    if isinstance(error, BusyError):
        # the search goes on; only this key has asked too often
        return error.retry_after_s
    return POLL_S if error.exit_code == UNREACHABLE else None


def _farewell(connection: Connection, search_id: str) -> str:
    if connection.stack is None:
        return (
            f"the search goes on without you at {connection.api.url}; come back with: nasatlas resume {search_id}, "
            f"end it with: nasatlas cancel {search_id}"
        )
    return _kept(search_id)
