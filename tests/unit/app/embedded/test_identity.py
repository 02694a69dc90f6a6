import os
import pwd

import pytest

from app.embedded import identity
from app.embedded.errors import PrivilegesError
from app.embedded.identity import SAME_IDENTITY, Identity


def test_owner_of_the_files_seen_from_outside() -> None:
    assert SAME_IDENTITY.owner_uid == os.geteuid()
    assert Identity("namespace", 65534, 65534).owner_uid == os.geteuid()
    assert Identity("drop", 65534, 65533).owner_uid == 65534
    assert Identity("drop", 65534, 65533).owner_gid == 65533


@pytest.mark.parametrize("kind", ["namespace", "drop"])
def test_root_is_no_other_identity(kind: identity.IdentityKind) -> None:
    with pytest.raises(ValueError, match="must not be root"):
        Identity(kind, 0, 0)


def test_root_and_users_without_an_entry_are_not_acceptable(monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid)
    unknown = 4_000_000_000
    for uid, acceptable in ((0, False), (known, True), (unknown, False)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert identity.is_acceptable_to_postgres() == acceptable


def test_without_nobody_another_user_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_nobody(_: str) -> None:
        raise KeyError

    entries = [entry for entry in pwd.getpwall() if entry.pw_name != "nobody"]
    monkeypatch.setattr(pwd, "getpwnam", no_nobody)
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    assert identity.unprivileged_user()[0] != 0
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry for entry in entries if entry.pw_uid == 0])
    with pytest.raises(PrivilegesError, match="useradd"):
        identity.unprivileged_user()
