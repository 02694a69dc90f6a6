"""``nasatlas keys``: API keys are made, listed and revoked by whoever may write to the database.

There is no route for it: a stolen key, whatever its scopes, makes no further keys.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.cli.console import answers, print_json
from app.cli.errors import UNREACHABLE, USAGE, CommandError
from app.cli.options import AsJson
from app.db import api_keys as keys_db
from app.db.engine import get_engine, transaction
from app.db.models import ApiKeyRow
from app.embedded.database import stack_database
from app.embedded.errors import EmbeddedStackError
from app.services import api_keys
from app.settings import get_settings

commands = typer.Typer(help="Make, list and revoke API keys, in the service's database.", no_args_is_help=True)


class ScopeOption(StrEnum):
    """What a key may do; admin implies submit, submit implies read."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    owner: Annotated[str, typer.Option(help="Whose searches it opens; several keys may have one owner.")],
    scope: Annotated[
        ScopeOption, typer.Option(help="read; submit: also submit, cancel and delete; admin: of every owner.")
    ] = ScopeOption.SUBMIT,
    expires_days: Annotated[
        float | None, typer.Option(min=0.001, max=36500, help="Days that it is valid; default: until revoked.")
    ] = None,
    rate_limit: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Requests a minute; default: no limit.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    expires_at = None if expires_days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=expires_days)
    with _session() as session:
        try:
            new = api_keys.create(
                session,
                name=name,
                owner=owner,
                scopes=[scope.value],
                expires_at=expires_at,
                rate_limit_per_minute=rate_limit,
            )
        except ValueError as error:
            raise CommandError(USAGE, str(error)) from error
    if as_json:
        print_json({**_described(new.row), "key": new.secret})
    else:
        answers().print(
            f"{new.secret}\n\nThis is the only time that the key {name!r} is shown. Send it as `Authorization: Bearer "
            "KEY`, or set NASATLAS_API_KEY for this command line.",
            markup=False,
        )


@commands.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List all keys, without the keys themselves."""
    with _session() as session:
        keys = [_described(row) for row in keys_db.all_keys(session)]
    if as_json:
        print_json({"items": keys})
        return
    table = Table("key", "name", "owner", "scopes", "state", "expires", "last used", "requests a minute")
    for key in keys:
        dates = (_date(key["expires_at"]), _date(key["last_used_at"]))
        limit = key["rate_limit_per_minute"]
        table.add_row(
            key["prefix"] + "...",
            key["name"],
            key["owner"],
            ", ".join(key["scopes"]),
            key["state"],
            *dates,
            "-" if limit is None else str(limit),
        )
    answers().print(table)


@commands.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its prefix, id or name.", show_default=False)], as_json: AsJson = False
) -> None:
    """Revoke a key, at once and for good; its owner's searches stay."""
    with _session() as session:
        try:
            row = api_keys.revoke(session, key.removesuffix("..."))
        except api_keys.NoSuchKeyError as error:
            raise CommandError(USAGE, str(error)) from error
        described = _described(row)
    if as_json:
        print_json(described)
    else:
        answers().print(f"{described['prefix']}... of {described['owner']} is revoked", markup=False)


@contextmanager
def _session() -> Iterator[Session]:
    """A transaction on the service's database: the configured one, or that of the state directory."""
    settings = get_settings()
    try:
        if settings.database_url is not None:
            with transaction(get_engine(settings.database_url)) as session:
                yield session
        else:
            with stack_database(settings.state_dir) as url:
                engine = get_engine(url)
                try:
                    with transaction(engine) as session:
                        yield session
                finally:
                    engine.dispose()
    except EmbeddedStackError as error:
        raise CommandError(UNREACHABLE, str(error)) from error
    except ProgrammingError as error:
        raise CommandError(
            UNREACHABLE, "the database has no table of keys: bring its schema up to date with python -m app.db.migrate"
        ) from error
    except SQLAlchemyError as error:
        raise CommandError(
            UNREACHABLE, f"the database cannot be used ({type(error).__name__}); see NASATLAS_DATABASE_URL"
        ) from error


def _described(row: ApiKeyRow) -> dict[str, Any]:
    """What may be shown of a key: all but its hash."""
    return {
        "id": str(row.id),
        "name": row.name,
        "owner": row.owner,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "state": api_keys.state_of(row),
        "rate_limit_per_minute": row.rate_limit_per_minute,
        **{
            name: value and value.isoformat()
            for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
            for value in [getattr(row, name)]
        },
    }


def _date(iso: str | None) -> str:
    return "-" if iso is None else iso[:16].replace("T", " ")
