"""The compose file: every documented setting can be set in .env and reaches the services that read it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from app.thread_waiting import THREAD_WAITING

ROOT = Path(__file__).parents[2]
API, BEAT, WORKERS = {"api"}, {"beat"}, {"worker-gpu", "worker-cpu"}
EVERYBODY = API | BEAT | WORKERS
READ_BY = {
    "DATABASE_URL": EVERYBODY | {"migrate"},
    "BROKER_URL": EVERYBODY,
    "ARTIFACT_URL": EVERYBODY,
    "DATA_ROOT": API | WORKERS,
    "UPLOAD_ROOT": API | WORKERS,
    "MAX_UPLOAD_BYTES": API,
    "DEVICE": WORKERS,
    "TRAINING_PROCESSES": WORKERS,
    "SHARD_SIZE": WORKERS,
    "EVALUATION_MEMORY_BYTES": WORKERS,
    # one checks the other, wherever one of them is set
    "LEASE_S": BEAT | WORKERS,
    "HEARTBEAT_S": BEAT | WORKERS,
    "MAX_ATTEMPTS": BEAT | WORKERS,
    "MAX_SILENCE_S": BEAT | WORKERS,
    "REAP_S": BEAT,
    "REWAKE_S": BEAT,
    "AUTHENTICATION": API,
    "HOST": API,
    "ALLOWED_HOSTS": API,
    "METRICS_TOKEN": API,
    "LOGIN_HOURS": API,
    "MAX_OPEN_SEARCHES_PER_OWNER": API,
    "MAX_ROWS_PER_OWNER": API,
    "MAX_ARTIFACT_BYTES_PER_OWNER": API,
    "MAX_UPLOAD_BYTES_PER_OWNER": API,
    "RETENTION_DAYS": BEAT,
    "WEBHOOK_SECRET": API | BEAT,
    "WEBHOOK_ALLOWED_HOSTS": API | BEAT,
    "LOG_LEVEL": EVERYBODY,
    "LOG_FORMAT": EVERYBODY,
    "OTLP_ENDPOINT": EVERYBODY - BEAT,
    # the embedded stack's, and those of the command line where it is used
    "STATE_DIR": set(),
    "API_KEY": set(),
    "URL": set(),
}
"""The services that read each setting."""
SET_BY_COMPOSE = {"DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DATA_ROOT", "UPLOAD_ROOT", "HOST"}
"""What compose itself says: where its services and volumes are."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = compose["services"]
    return found


def test_every_setting_is_known_here_and_documented() -> None:
    assert {name.upper() for name in Settings.model_fields} == set(READ_BY)
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("### Configuration of the service")[2]
    table = section.partition("\n## ")[0]
    assert set(re.findall(r"`NASATLAS_([A-Z_]+)`", table)) >= set(READ_BY) - {"URL"}


@pytest.mark.parametrize("name", READ_BY)
def test_a_setting_reaches_the_services_that_read_it(services: dict[str, Any], name: str) -> None:
    for service in READ_BY[name]:
        value = str(services[service]["environment"][f"NASATLAS_{name}"])
        if name in SET_BY_COMPOSE or (service, name) == ("worker-cpu", "DEVICE"):
            assert value
            assert f"${{NASATLAS_{name}" not in value
        else:
            assert re.fullmatch(rf"\$\{{NASATLAS_{name}:-\w*\}}", value), (service, value)


def test_threads_wait_as_in_the_embedded_stack(services: dict[str, Any]) -> None:
    for service in WORKERS:
        assert THREAD_WAITING.items() <= services[service]["environment"].items()


def test_what_can_be_set_is_listed() -> None:
    listed = (ROOT / ".env.example").read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in set(re.findall(r"\$\{(\w+)", compose)):
        assert re.search(rf"^(# )?{name}=", listed, re.MULTILINE), name


def test_what_is_listed_is_as_good_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A copy of .env.example in which only the passwords are filled in."""
    for name in READ_BY:
        monkeypatch.delenv(f"NASATLAS_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Settings(_env_file=ROOT / ".env.example") == Settings()
