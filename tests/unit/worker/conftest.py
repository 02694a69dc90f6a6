"""Settings for the modules that make a Celery application when they are imported; no test here talks to the broker."""

from collections.abc import Iterator

import pytest

from app.settings import get_settings


@pytest.fixture
def broker_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("NASATLAS_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()
