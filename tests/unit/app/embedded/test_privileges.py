"""As whom PostgreSQL runs: as we do where it can be, and with every reason where it cannot be at all."""

import os
import stat
from pathlib import Path

import pytest

from app.embedded import privileges
from app.embedded.binaries import PostgresBinaries
from app.embedded.errors import EmbeddedStackError, PrivilegesError
from app.embedded.identity import SAME_IDENTITY, Identity
from app.embedded.privileges import clean_environment, create_private_directory, place_postgres, privileges_mode

BINARIES = PostgresBinaries(Path("/nowhere"), Path("prefix"), Path("libraries"), "16.0")


def closed(*_: object) -> None:
    raise PrivilegesError("closed here")


@pytest.mark.parametrize(
    ("value", "mode"), [(None, "auto"), ("", "auto"), ("auto", "auto"), ("namespace", "namespace"), ("drop", "drop")]
)
def test_the_way_can_be_forced(monkeypatch: pytest.MonkeyPatch, value: str | None, mode: str) -> None:
    monkeypatch.delenv("NASATLAS_EMBEDDED_PRIVILEGES", raising=False)
    if value is not None:
        monkeypatch.setenv("NASATLAS_EMBEDDED_PRIVILEGES", value)
    assert privileges_mode() == mode


@pytest.mark.parametrize("value", ["sudo", "DROP", "auto "])
def test_unknown_privileges_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NASATLAS_EMBEDDED_PRIVILEGES", value)
    with pytest.raises(PrivilegesError, match="use auto, namespace or drop"):
        privileges_mode()


def test_an_ordinary_user_runs_it_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the data really are: the server is asked by that path whether it is the one."""
    monkeypatch.setattr(privileges, "is_acceptable_to_postgres", lambda: True)
    monkeypatch.setattr(privileges, "_place_in_namespace", closed)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    placement = place_postgres(BINARIES, tmp_path / "link" / "postgres", "auto")
    assert (placement.identity, placement.binaries) == (SAME_IDENTITY, BINARIES)
    assert placement.data_dir == tmp_path.resolve() / "disk" / "postgres"


def test_no_way_out_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(privileges, "is_acceptable_to_postgres", lambda: False)
    monkeypatch.setattr(privileges, "_place_in_namespace", closed)
    monkeypatch.setattr(privileges, "_place_dropped", closed)
    with pytest.raises(PrivilegesError, match=r"(?s)NASATLAS_DATABASE_URL.*namespace: closed here.*drop: closed here"):
        place_postgres(BINARIES, tmp_path / "postgres", "auto")


def test_only_the_forced_way_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also by a user who would need none."""
    monkeypatch.setattr(privileges, "is_acceptable_to_postgres", lambda: True)
    monkeypatch.setattr(privileges, "_place_dropped", closed)
    with pytest.raises(PrivilegesError) as caught:
        place_postgres(BINARIES, tmp_path / "postgres", "drop")
    assert "drop: closed here" in str(caught.value)
    assert "namespace:" not in str(caught.value)


def test_who_is_not_root_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegesError, match="only root can become another user"):
        place_postgres(BINARIES, tmp_path / "postgres", "drop")


def test_variables_of_other_servers_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX", "LC_TIME": "de", "KEPT": "1"}.items():
        monkeypatch.setenv(name, value)
    environment = clean_environment()
    assert not [name for name in environment if name.startswith("PG")]
    assert {name: value for name, value in environment.items() if name.startswith("LC_")} == {"LC_ALL": "C"}
    assert environment["KEPT"] == "1"
    assert os.environ["PGPORT"] == "1"


def test_a_private_directory_is_private_whatever_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "sockets"
    for _ in range(2):
        create_private_directory(directory, SAME_IDENTITY)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        directory.chmod(0o755)


def test_a_directory_that_cannot_be_given_away_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbidden)
    with pytest.raises(EmbeddedStackError, match=r"cannot be made private to user 4000000: .*Operation not permitted"):
        create_private_directory(tmp_path / "sockets", Identity("drop", 4_000_000, 4_000_000))
