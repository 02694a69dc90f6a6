"""``nasatlas backup`` and ``nasatlas restore``: the embedded stack's database, checkpoints and uploads, in one file."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import Notices, answers, print_json
from app.cli.errors import FAILED, UNREACHABLE, USAGE, CommandError
from app.cli.options import AsJson
from app.embedded.archive import BackupError
from app.embedded.backup import Backup, back_up
from app.embedded.backup import restore as restore_backup
from app.embedded.errors import EmbeddedStackError
from app.settings import Settings, get_settings


def backup(
    target: Annotated[Path, typer.Argument(help="File to write, or directory to write one into.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write database, checkpoints and uploads of the embedded stack, which may be running, into one file."""
    settings, notices = _embedded_settings(), Notices()
    _answer(
        lambda: back_up(settings.state_dir, settings.artifacts(), settings.uploads(), target, notices.phase),
        "written; it holds the hashes of API keys and everybody's searches: keep it as safe as the service itself",
        as_json,
    )


def restore(
    source: Annotated[Path, typer.Argument(help="File that `nasatlas backup` wrote.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Lose the searches that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring back database, checkpoints and uploads from a file; the embedded stack must not be running."""
    settings, notices = _embedded_settings(), Notices()
    _answer(
        lambda: restore_backup(
            source,
            settings.state_dir,
            settings.artifacts(),
            settings.uploads(),
            replace=replace,
            on_phase=notices.phase,
        ),
        "restored; searches that were running go on when the stack is started",
        as_json,
    )


def _embedded_settings() -> Settings:
    settings = get_settings()
    if settings.database_url is not None:
        raise CommandError(
            USAGE,
            "NASATLAS_DATABASE_URL names a PostgreSQL of your own; use pg_dump and pg_restore on it, as "
            "docs/operations.md shows",
        )
    return settings


def _answer(work: Callable[[], Backup], message: str, as_json: bool) -> None:
    try:
        done = work()
    except BackupError as error:
        raise CommandError(USAGE, str(error)) from error
    except EmbeddedStackError as error:
        raise CommandError(UNREACHABLE, str(error)) from error
    except OSError as error:
        raise CommandError(FAILED, f"{error.strerror or error}: {error.filename or 'the artifact store'}") from error
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
    else:
        files = f"{done.num_artifacts} checkpoint files, {done.num_upload_files} uploaded files"
        size = f"{done.num_bytes / 2**20:,.1f} MiB, {files}"
        answers().print(f"{done.path} ({size}) is {message}", markup=False)
