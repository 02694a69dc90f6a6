"""Clients that pause nowhere and take nothing from the environment or a .env file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import app.client.calls
from app.settings import get_settings


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(app.client.calls.time, "sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    for name in ("NASATLAS_URL", "NASATLAS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()
