"""As whom a program runs: as we do, as another user of a user namespace, or as another user after giving up root."""

import os
import pwd
from dataclasses import dataclass
from typing import Any, Literal

from app.embedded.errors import PrivilegesError

IdentityKind = Literal["same", "namespace", "drop"]


@dataclass(frozen=True)
class Identity:
    """The user that a program believes, or is, to be.

    Attributes:
        kind: ``same``: as we are. ``namespace``: inside a user namespace our own user appears as ``uid``, and so do the
            owners of our files: nothing has to be given away. ``drop``: really become ``uid`` (root only).
        uid: The user inside the namespace, or to drop to; our own for ``same``.
        gid: The group likewise.
    """

    kind: IdentityKind
    uid: int
    gid: int

    def __post_init__(self) -> None:
        if self.kind != "same" and self.uid == 0:
            raise ValueError("the other identity must not be root (uid 0)")

    def as_options(self) -> dict[str, Any]:
        """Return the form that the launcher takes."""
        return {"kind": self.kind, "uid": self.uid, "gid": self.gid}

    @property
    def owner_uid(self) -> int:
        """The user, seen from outside, that must own the program's files."""
        return self.uid if self.kind == "drop" else os.geteuid()

    @property
    def owner_gid(self) -> int:
        """The group, seen from outside, of the program's files."""
        return self.gid if self.kind == "drop" else os.getegid()


SAME_IDENTITY = Identity("same", os.geteuid(), os.getegid())


def unprivileged_user() -> tuple[int, int]:
    """Return (uid, gid) of ``nobody``, or of another account that is not root where there is no ``nobody``.

    Raises:
        PrivilegesError: The password file names nobody but root.
    """
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
        if not others:
            raise PrivilegesError(
                "PostgreSQL needs a user that is not root, and /etc/passwd has none: add one (useradd nasatlas), "
                "or set NASATLAS_DATABASE_URL to a PostgreSQL server."
            ) from None
        entry = others[0]
    return entry.pw_uid, entry.pw_gid


def is_acceptable_to_postgres() -> bool:
    """Say whether PostgreSQL runs as the user that we are: not root, and with a passwd entry."""
    if os.geteuid() == 0:
        return False
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True
