"""Settings from the environment (``NASATLAS_*``) and ``.env``; nothing else in the product reads the environment."""

import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAX_DURATION_S = 7 * 86_400.0
"""No lease or pace is longer; infinity, which PostgreSQL has no interval for, is not either."""


class Settings(BaseSettings):
    """Where things are and how the processes behave. Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="NASATLAS_", env_file=".env", extra="ignore", env_ignore_empty=True)

    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of PostgreSQL (postgresql+psycopg://...)."
    )
    broker_url: str | None = Field(default=None, description="Redis or Valkey URL for Celery.")
    artifact_url: str | None = Field(
        default=None, description="fsspec URL for checkpoints; default: in the state directory."
    )
    data_root: Path | None = Field(default=None, description="Directory under which image data sets are found.")
    upload_root: Path | None = Field(
        default=None,
        description="Directory of uploaded data sets, seen by API and workers; default: in the state directory.",
    )
    max_upload_bytes: int = Field(default=2**30, ge=1, description="Size of an uploaded archive.")
    state_dir: Path = Field(default=Path(".nasatlas"), description="Embedded servers' data, logs and artifacts.")
    url: str | None = Field(
        default=None, description="API that the command line talks to; default: the embedded stack."
    )

    host: str = Field(
        default="127.0.0.1", description="Address that the API listens on; whoever starts the server sets it."
    )
    authentication: Literal["auto", "keys", "none"] = Field(
        default="auto", description="auto: API keys are needed unless the API listens on a loopback address."
    )
    allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Names, separated by commas, under which the API answers callers without keys; localhost, "
        "addresses and names without a dot always.",
    )
    api_key: SecretStr | None = Field(default=None, description="Key that the command line sends.")
    metrics_token: SecretStr | None = Field(
        default=None, description="Bearer token that may read /metrics and nothing else."
    )
    login_hours: float = Field(default=12.0, gt=0, le=24 * 30, description="How long a browser stays logged in.")

    max_open_searches_per_owner: int | None = Field(
        default=None, ge=1, lt=2**63, description="Searches of an owner that are queued or running; default: no limit."
    )
    max_rows_per_owner: int | None = Field(
        default=None,
        ge=1,
        lt=2**63,
        description="Rows of an owner's lookup tables, those to come included; default: no limit.",
    )
    max_artifact_bytes_per_owner: int | None = Field(
        default=None, ge=1, lt=2**63, description="Size of an owner's checkpoints; default: no limit."
    )
    max_upload_bytes_per_owner: int | None = Field(
        default=None, ge=1, description="Size of an owner's uploaded data sets, unpacked; default: no limit."
    )
    retention_days: float | None = Field(
        default=None, gt=0, le=36_500, description="Searches that ended longer ago are deleted; default: kept."
    )

    device: str = Field(default="auto", description="auto, cpu, or cuda:N.")
    training_processes: int = Field(
        default=1, ge=1, le=64, description="Processes of one supernet training (one per GPU)."
    )
    shard_size: int = Field(default=250, ge=1, le=1_000_000, description="Architectures in one evaluation step.")
    evaluation_memory_bytes: int | None = Field(
        default=None, ge=2**26, description="Budget for activations; default: measured."
    )

    lease_s: float = Field(
        default=30.0, gt=1, le=MAX_DURATION_S, description="A worker that is silent for longer has lost its step."
    )
    heartbeat_s: float = Field(
        default=2.0,
        gt=0,
        le=MAX_DURATION_S,
        description="How often a worker renews its lease and looks for a cancellation.",
    )
    max_silence_s: float = Field(
        default=3600.0,
        ge=60,
        le=MAX_DURATION_S,
        description="A step that reports nothing for longer hangs: its lease is no longer renewed.",
    )
    reap_s: float = Field(
        default=5.0, gt=0, le=MAX_DURATION_S, description="How often the reaper looks for lost steps."
    )
    rewake_s: float = Field(
        default=30.0, gt=0, le=MAX_DURATION_S, description="A ready step that nobody took is woken again after this."
    )
    max_attempts: int = Field(
        default=5, ge=1, le=1000, description="A step whose workers died this often fails the search."
    )

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="OpenTelemetry collector (OTLP over HTTP) that traces go to; default: none are made.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=16, description="What webhooks are signed with; unset: none are taken."
    )
    webhook_allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Hosts, separated by commas, whose webhooks may be private addresses and http.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("webhook_allowed_hosts", "allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, given: Any) -> Any:
        hosts = given.split(",") if isinstance(given, str) else given
        return frozenset(host.strip().strip("[]").lower() for host in hosts) - {""}

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: frozenset[str]) -> frozenset[str]:
        # anything else equals no request's host: it would be refused without a word why
        for host in sorted(hosts):
            if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
                raise ValueError(
                    f"NASATLAS_ALLOWED_HOSTS has {host!r}, which is no name of a host; give names without scheme, port "
                    "and wildcard, separated by commas: atlas.example.org"
                )
        return hosts

    @model_validator(mode="after")
    def _leases_outlive_heartbeats(self) -> Self:
        if self.heartbeat_s > self.lease_s / 2:
            raise ValueError(
                f"NASATLAS_HEARTBEAT_S ({self.heartbeat_s}) must be at most half of NASATLAS_LEASE_S ({self.lease_s}), "
                "or workers lose their steps while they work"
            )
        return self

    @model_validator(mode="after")
    def _uploads_have_no_name(self) -> Self:
        if self.data_root is None:
            return self
        data_root, uploads = self.data_root.resolve(), self.uploads().resolve()
        if uploads.is_relative_to(data_root):
            between = uploads.relative_to(data_root).parts
            if not any(part.startswith(".") for part in between):
                raise ValueError(
                    f"the uploads ({uploads}) lie under the data root ({data_root}), where everybody could name other "
                    "owners' images; set NASATLAS_UPLOAD_ROOT to a directory elsewhere, or to a hidden one there"
                )
        return self

    def required_database_url(self) -> str:
        """The database's URL.

        Raises:
            RuntimeError: If none is set.
        """
        if self.database_url is None:
            raise RuntimeError(
                "NASATLAS_DATABASE_URL is not set; `nasatlas serve` starts an embedded PostgreSQL and sets it"
            )
        return self.database_url

    def required_broker_url(self) -> str:
        """The broker's URL.

        Raises:
            RuntimeError: If none is set.
        """
        if self.broker_url is None:
            raise RuntimeError("NASATLAS_BROKER_URL is not set; `nasatlas serve` starts an embedded Valkey and sets it")
        return self.broker_url

    def keys_required(self) -> bool:
        """Whether every caller needs an API key."""
        return self.authentication == "keys" or (self.authentication == "auto" and not is_loopback(self.host))

    def artifacts(self) -> str:
        """Fsspec URL under which checkpoints and weights lie."""
        return self.artifact_url or f"file://{self.state_dir.absolute() / 'artifacts'}"

    def uploads(self) -> Path:
        """Directory under which uploaded data sets lie."""
        return self.upload_root or self.state_dir.absolute() / "uploads"


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only; names other than localhost are taken as if not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the process's settings, read once."""
    return Settings()
