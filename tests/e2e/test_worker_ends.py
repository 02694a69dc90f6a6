"""Workers that are asked to end, and workers that are killed again and again by the same step."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import create_engine, text

from app.embedded.process_table import descendants
from app.embedded.stack import Stack
from tests.e2e.conftest import TINY_SEARCH

TIMEOUT_S = 100.0


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    values = {"LEASE_S": "3", "HEARTBEAT_S": "0.3", "REAP_S": "1", "REWAKE_S": "2", "MAX_ATTEMPTS": "2"}
    for name, value in values.items():
        monkeypatch.setenv(f"NASATLAS_{name}", value)
    for name in ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DATA_ROOT", "URL"):
        monkeypatch.delenv(f"NASATLAS_{name}", raising=False)
    with Stack(tmp_path / "state") as running:
        yield running


def until(stack: Stack, holds: Callable[[], Any]) -> Any:
    """Wait until something holds, keeping the stack up as `nasatlas serve` does."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := holds()):
        assert time.monotonic() < deadline, (stack.state_dir / "logs" / "worker.log").read_text()[-3000:]
        assert stack.keep_up() == []
        time.sleep(0.1)
    return found


def worker_processes(stack: Stack, text: str) -> list[int]:
    """The worker's processes whose command line has a text; not the guardian, which names its program as well."""
    found = []
    for pid in descendants(stack.pid("worker")):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if text in command and "launcher" not in command:
                found.append(pid)
    return found


def step_of(stack: Stack, search_id: str) -> dict[str, Any]:
    engine = create_engine(stack.running.database_url)
    try:
        with engine.connect() as connection:
            row = connection.execute(text("select * from steps where search_id = :id"), {"id": search_id})
            return dict(row.mappings().one())
    finally:
        engine.dispose()


def test_a_worker_hands_its_step_back_and_a_crash_loop_ends(stack: Stack) -> None:
    with httpx2.Client(base_url=stack.url, timeout=30.0) as client:
        # a training that would go on for hours
        search_id = client.post("/search", json=TINY_SEARCH | {"epochs": 100_000}).json()["id"]

        def read() -> dict[str, Any]:
            return client.get(f"/search/{search_id}").raise_for_status().json()  # type: ignore[no-any-return]

        until(stack, lambda: read()["training_progress"] > 0)
        # asked to end: hands back at once, and that is no death
        os.kill(worker_processes(stack, "worker.celery_app")[0], signal.SIGTERM)
        until(stack, lambda: step_of(stack, search_id)["attempt"] == 2)
        assert step_of(stack, search_id)["failures"] == 0
        assert '"ending": "handed back"' in (stack.state_dir / "logs" / "worker.log").read_text()

        # killed by the same step each time: bounded, with the reason
        for attempt in (2, 3):
            until(stack, lambda n=attempt: step_of(stack, search_id)["attempt"] == n)
            for pid in worker_processes(stack, "spawn_main"):
                os.kill(pid, signal.SIGKILL)
        failed = until(stack, lambda: (search := read())["state"] == "failed" and search)
        assert "the worker of step train_supernet died 2 times" in failed["error"]
        assert "resume the search" in failed["error"]

        # the worker lives on
        other = client.post("/search", json=TINY_SEARCH).json()["id"]
        until(stack, lambda: client.get(f"/search/{other}").json()["training_progress"] > 0)
        client.post(f"/search/{other}/cancel").raise_for_status()
        until(stack, lambda: client.get(f"/search/{other}").json()["state"] == "cancelled")
