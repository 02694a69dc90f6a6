"""Backup and restore of the embedded stack: its database, the checkpoints that its searches go on from, and uploads.

The broker's data are not in it: a message is only a wake-up, and the reaper sends every one again.

The database is dumped first, in one snapshot, the artifacts after it. A checkpoint that is newer than what the database
says is harmless (the same seed gives the same training); one that is older, or missing, would not be. So a backup may
be made while searches run.
"""

import datetime as dt
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import psycopg
from psycopg import sql
from sqlalchemy import create_engine, make_url

from app.db.migrate import current_revision, known_revisions, migrate
from app.embedded.archive import ArchiveWriter, BackupError, check_archive, new_archive, read_archive
from app.embedded.binaries import find_postgres
from app.embedded.database import stack_database
from app.embedded.postgres import DATABASE
from app.embedded.privileges import clean_environment
from app.embedded.process import ProcessSpec, run_to_end

DUMP = "database.dump"
ARTIFACTS = "artifacts/"
UPLOADS = "uploads/"
INCOMING = ".incoming-"
"""Begins the name of an upload that is not there yet."""

_TEMPORARY_PREFIX = ".writing-"
_RESTORED = f"{DATABASE}_restored"
_TIMEOUT_S = 6 * 3600.0

OnPhase = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """A backup that was written or restored.

    Attributes:
        path: Its file.
        schema_revision: That of the database in it.
        num_artifacts: Files of checkpoints in it.
        num_upload_files: Files of uploaded data sets in it.
        num_bytes: Its size.
    """

    path: Path
    schema_revision: str
    num_artifacts: int
    num_upload_files: int
    num_bytes: int


def back_up(state_dir: Path, artifact_url: str, upload_root: Path, target: Path, on_phase: OnPhase) -> Backup:
    """Write a backup of the stack of a state directory, which may be running.

    Args:
        state_dir: The stack's directory.
        artifact_url: fsspec URL of the checkpoints.
        upload_root: Directory of the uploaded data sets.
        target: The file to write, or a directory to write one into.
        on_phase: Told what is being done.

    Raises:
        BackupError: If there is nothing to back up, or the target exists.
        EmbeddedStackError: If the database cannot be reached or dumped.
        OSError: If something cannot be read or written.
    """
    if not (state_dir / "postgres").exists():
        raise BackupError(f"there is no database in {state_dir.absolute()}; set NASATLAS_STATE_DIR to the stack's")
    now = dt.datetime.now(dt.UTC)
    path = target / f"nasatlas-{now:%Y%m%dT%H%M%SZ}.tar" if target.is_dir() else target
    with tempfile.TemporaryDirectory(prefix="nasatlas-backup-", dir=path.absolute().parent) as scratch:
        dump = Path(scratch) / DUMP
        on_phase("dumping the database")
        with stack_database(state_dir, newest_schema=False) as url:
            revision = _revision(url)
            _run("pg_dump", "--format=custom", "--no-owner", f"--file={dump}", f"--dbname={_libpq(url)}")
        on_phase("copying the artifacts")
        facts = {"nasatlas": version("nasatlas"), "schema_revision": revision, "created_at": now.isoformat()}
        with new_archive(path, facts) as archive:
            with dump.open("rb") as file:
                archive.add(DUMP, file)
            dump.unlink()
            num_artifacts = _add_files(archive, ARTIFACTS, artifact_url)
            num_upload_files = _add_files(archive, UPLOADS, _file_url(upload_root))
    return Backup(path, revision, num_artifacts, num_upload_files, path.stat().st_size)


def _add_files(archive: ArchiveWriter, prefix: str, url: str) -> int:
    filesystem, root = _artifacts(url)
    number = 0
    for name in _artifact_names(filesystem, root):
        # one that is gone was replaced by a newer one, or its search or upload was deleted
        with ExitStack() as opened:
            try:
                file = opened.enter_context(filesystem.open(f"{root}/{name}", "rb"))
            except FileNotFoundError:
                continue
            archive.add(f"{prefix}{name}", file)
        number += 1
    return number


def restore(
    source: Path, state_dir: Path, artifact_url: str, upload_root: Path, *, replace: bool, on_phase: OnPhase
) -> Backup:
    """Bring back the database, the artifacts and the uploads of a backup. The stack must not be running.

    The database is restored beside the present one and takes its place when it is whole and of the newest schema.

    Args:
        source: The backup's file.
        state_dir: The stack's directory; made if need be.
        artifact_url: fsspec URL of the checkpoints.
        upload_root: Directory of the uploaded data sets.
        replace: Whether searches that are there may be lost.
        on_phase: Told what is being done.

    Raises:
        BackupError: If the backup is damaged or of a newer version, or there are searches already.
        DirectoryInUseError: If the stack is running.
        EmbeddedStackError: If the database cannot run here or cannot be restored.
        OSError: If something cannot be read or written.
    """
    on_phase("checking the backup")
    contents = check_archive(source)
    revision = str(contents.get("schema_revision"))
    if revision not in known_revisions():
        raise BackupError(
            f"{source} was made by a newer version (nasatlas {contents.get('nasatlas')}, schema {revision}); "
            "restore it with that one"
        )
    with stack_database(state_dir, newest_schema=False, may_run=False) as url, _maintenance(url) as server:
        if not replace and _has_searches(url):
            raise BackupError(
                f"there are searches in {state_dir.absolute()}; restore into another NASATLAS_STATE_DIR, or give "
                "--replace to lose them"
            )
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_RESTORED)))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(_RESTORED)))
        restored_url = make_url(url).set(database=_RESTORED).render_as_string(hide_password=False)
        on_phase("restoring the database")
        _restore_dump(source, restored_url)
        on_phase("bringing the database schema up to date")
        migrate(restored_url)
        on_phase("restoring the artifacts")
        num_artifacts = _restore_files(source, ARTIFACTS, artifact_url)
        num_upload_files = _restore_files(source, UPLOADS, _file_url(upload_root))
        _bury(_search_ids(url), restored_url)
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        server.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(_RESTORED), sql.Identifier(DATABASE))
        )
    return Backup(source, revision, num_artifacts, num_upload_files, source.stat().st_size)


def _restore_dump(source: Path, url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="nasatlas-restore-") as scratch:
        dump = Path(scratch) / DUMP
        for name, file in read_archive(source):
            if name == DUMP:
                with dump.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
        _run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={_libpq(url)}", str(dump))
    with closing(psycopg.connect(_libpq(url), autocommit=True)) as connection:
        # a dump has neither statistics nor what index-only scans need: lookups would be slow
        connection.execute("VACUUM ANALYZE")


def _bury(replaced: list[uuid.UUID], restored_url: str) -> None:
    """Leave tombstones for searches that the backup does not have, so that the reaper removes their artifacts."""
    with psycopg.connect(_libpq(restored_url)) as connection:
        connection.execute(
            "insert into deleted_searches (search_id) select lost from unnest(%s::uuid[]) as lost "
            "where lost not in (select id from searches) on conflict do nothing",
            (replaced,),
        )


def _search_ids(url: str) -> list[uuid.UUID]:
    """Return all searches and jobs of a database, those that are deleted but not yet forgotten included."""
    found: list[uuid.UUID] = []
    with closing(psycopg.connect(_libpq(url))) as connection:
        # a database of an older version may lack either
        for table, column in (("searches", "id"), ("deleted_searches", "search_id")):
            exists = connection.execute("select to_regclass(%s)", (f"public.{table}",)).fetchone()
            if exists is not None and exists[0] is not None:
                query = sql.SQL("select {} from {}").format(sql.Identifier(column), sql.Identifier(table))
                found += [row[0] for row in connection.execute(query)]
    return found


def _restore_files(source: Path, prefix: str, url: str) -> int:
    filesystem, root = _artifacts(url)
    number = 0
    for name, file in read_archive(source):
        if name.startswith(prefix):
            place = f"{root}/{name.removeprefix(prefix)}"
            filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
            with filesystem.open(place, "wb") as copy:
                shutil.copyfileobj(file, copy)
            number += 1
    return number


def _file_url(directory: Path) -> str:
    return f"file://{directory.absolute()}"


def _artifacts(artifact_url: str) -> tuple[Any, str]:
    filesystem, root = fsspec.core.url_to_fs(artifact_url)
    return filesystem, str(root).rstrip("/")


def _artifact_names(filesystem: Any, root: str) -> Iterator[str]:
    """Names below the root, without those that are still being written."""
    try:
        places = filesystem.find(root)
    except FileNotFoundError:
        return
    for place in sorted(places):
        name = place.removeprefix(f"{root}/")
        if not name.startswith(INCOMING) and not name.rpartition("/")[2].startswith(_TEMPORARY_PREFIX):
            yield name


@contextmanager
def _maintenance(url: str) -> Iterator[psycopg.Connection]:
    """A connection that can drop and rename the stack's database."""
    address = _libpq(make_url(url).set(database="postgres").render_as_string(hide_password=False))
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        yield connection


def _revision(url: str) -> str:
    engine = create_engine(url)
    try:
        revision = current_revision(engine)
    finally:
        engine.dispose()
    if revision is None:
        raise BackupError("the database is empty: there is nothing to back up")
    return revision


def _has_searches(url: str) -> bool:
    with closing(psycopg.connect(_libpq(url))) as connection:
        table = connection.execute("select to_regclass('public.searches')").fetchone()
        if table is None or table[0] is None:
            return False
        return connection.execute("select 1 from searches limit 1").fetchone() is not None


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _run(program: str, *arguments: str) -> None:
    with tempfile.TemporaryDirectory(prefix="nasatlas-") as scratch:
        command = (str(find_postgres().program(program)), *arguments)
        log_path = Path(scratch) / f"{program}.log"
        run_to_end(ProcessSpec(name=program, command=command, log_path=log_path, env=clean_environment()), _TIMEOUT_S)
