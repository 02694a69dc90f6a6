"""``nasatlas search`` on a stack of its own: ended by a signal it leaves nothing running and nothing half-written."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TINY_SEARCH

NASATLAS = str(Path(sys.executable).with_name("nasatlas"))
TIMEOUT_S = 240.0


@pytest.fixture
def nasatlas(tmp_path: Path, marked_processes: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command in an empty directory, on a state directory in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NASATLAS_")}
    environment |= {"NASATLAS_TEST_MARK": marked_processes.mark, "NASATLAS_HEARTBEAT_S": "0.3"}
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [NASATLAS, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def search_arguments(tmp_path: Path, **changes: Any) -> list[str]:
    request = TINY_SEARCH | changes
    space = tmp_path / "space.json"
    space.write_text(json.dumps(request.pop("search_space")))
    arguments = ["search", "--dataset", request.pop("dataset"), "--search-space", str(space)]
    for name, value in request.items():
        arguments += ["--set", f"{name}={json.dumps(value)}"]
    return arguments


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"no {pattern!r} in: {seen}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_search_and_leaves_nothing_behind(
    nasatlas: Callable[..., subprocess.Popen[str]], tmp_path: Path, marked_processes: Any, number: signal.Signals
) -> None:
    process = nasatlas(*search_arguments(tmp_path, epochs=1000))
    seen = read_until(process, "training the supernet")
    found = re.search(r"search ([0-9a-f-]{36})", seen)
    assert found
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)  # an impatient second one changes nothing
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert out == ""
    assert f"nasatlas resume {found[1]}" in err
    assert "Traceback" not in err
    marked_processes.assert_gone()


def test_an_interrupted_search_is_resumed_to_its_end(
    nasatlas: Callable[..., subprocess.Popen[str]], tmp_path: Path, marked_processes: Any
) -> None:
    process = nasatlas(*search_arguments(tmp_path, epochs=400), "--json")
    found = re.search(r"search ([0-9a-f-]{36})", read_until(process, "epoch"))
    assert found
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    process = nasatlas("status", found[1], "--json")
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert json.loads(out)["state"] == "cancelled", "it must not go on by itself when a service runs here again"
    process = nasatlas("resume", found[1], "--json")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    search = json.loads(out)
    assert (search["id"], search["state"], search["progress"]) == (found[1], "succeeded", 1)
    process = nasatlas("lookup", "--json")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert json.loads(out)["items"][0]["code"]
    marked_processes.assert_gone()
