"""Settings: names, defaults, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, get_settings, is_loopback


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of ours, and a directory without a .env."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NASATLAS_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_defaults_need_no_environment() -> None:
    settings = Settings()
    assert settings.database_url is None
    assert settings.heartbeat_s < settings.lease_s
    assert settings.log_format == "json"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_DATABASE_URL", "postgresql+psycopg://db/nasatlas")
    monkeypatch.setenv("NASATLAS_BROKER_URL", "redis://broker/0")
    monkeypatch.setenv("NASATLAS_SHARD_SIZE", "16")
    settings = get_settings()
    assert settings.required_database_url() == "postgresql+psycopg://db/nasatlas"
    assert settings.required_broker_url() == "redis://broker/0"
    assert settings.shard_size == 16
    assert get_settings() is settings


def test_env_file_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("NASATLAS_SHARD_SIZE=5\nNASATLAS_LEASE_S=90\nPOSTGRES_PASSWORD=secret\n")
    monkeypatch.setenv("NASATLAS_SHARD_SIZE", "6")
    assert (Settings().shard_size, Settings().lease_s) == (6, 90.0)


def test_empty_variables_are_as_if_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass on what is not set as an empty text."""
    monkeypatch.setenv("NASATLAS_DATA_ROOT", "")
    monkeypatch.setenv("NASATLAS_SHARD_SIZE", "")
    assert Settings().data_root is None
    assert Settings().shard_size == 250


@pytest.mark.parametrize("name", ["database", "broker"])
def test_what_is_required_says_how_to_get_it(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"NASATLAS_{name.upper()}_URL is not set; `nasatlas serve` starts"):
        getattr(Settings(), f"required_{name}_url")()


def test_artifacts_lie_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().artifacts() == f"file://{tmp_path}/.nasatlas/artifacts"
    monkeypatch.setenv("NASATLAS_ARTIFACT_URL", "s3://bucket/nasatlas")
    assert Settings().artifacts() == "s3://bucket/nasatlas"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SHARD_SIZE", "0", "greater than or equal to 1"),
        ("SHARD_SIZE", "many", "valid integer"),
        ("LEASE_S", "1", "greater than 1"),
        ("MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("TRAINING_PROCESSES", "0", "greater than or equal to 1"),
        ("EVALUATION_MEMORY_BYTES", "1000", "greater than or equal to 67108864"),
        ("AUTHENTICATION", "off", "'auto', 'keys' or 'none'"),
        ("ALLOWED_HOSTS", "atlas.example.org:8000", "no name of a host; give names without scheme, port"),
        ("ALLOWED_HOSTS", "*.example.org", "no name of a host"),
        ("RETENTION_DAYS", "0", "greater than 0"),
        ("MAX_ROWS_PER_OWNER", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("HEARTBEAT_S", "16", r"NASATLAS_HEARTBEAT_S \(16.0\) must be at most half of NASATLAS_LEASE_S \(30.0\)"),
    ],
)
def test_values_that_are_refused(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NASATLAS_{name}", value)
    with pytest.raises(ValidationError, match=message):
        Settings()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("authentication", "host", "expected"),
    [
        ("auto", "127.0.0.1", False),
        ("auto", "0.0.0.0", True),
        ("keys", "127.0.0.1", True),
        ("none", "0.0.0.0", False),
    ],
)
def test_who_needs_keys(authentication: str, host: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_AUTHENTICATION", authentication)
    monkeypatch.setenv("NASATLAS_HOST", host)
    assert Settings().keys_required() is expected


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_ALLOWED_HOSTS", " Atlas.example.org, nas.internal,,")
    assert Settings().allowed_hosts == {"atlas.example.org", "nas.internal"}


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASATLAS_API_KEY", "nas_hidden")
    monkeypatch.setenv("NASATLAS_METRICS_TOKEN", "hidden")
    assert "hidden" not in f"{Settings()!r} {Settings()} {Settings().model_dump()}"


def test_uploads_are_not_where_data_sets_are_named(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "uploads", tmp_path / "a" / "b"):
        with pytest.raises(ValidationError, match="NASATLAS_UPLOAD_ROOT"):
            Settings(data_root=tmp_path, upload_root=root)
    with pytest.raises(ValidationError, match="NASATLAS_UPLOAD_ROOT"):
        Settings(data_root=tmp_path, state_dir=tmp_path / "state")
    for root in (tmp_path / ".uploads", tmp_path / ".nasatlas" / "uploads", tmp_path.parent / "elsewhere"):
        assert Settings(data_root=tmp_path, upload_root=root).uploads() == root
