"""Everything that the OpenAPI document allows, and much that it does not, asked of a served API by schemathesis.

By its command: its pytest plugin does not work with pytest 9.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# 422 counts as an honest answer to a request that fits the schema: that segments partition the cells, that a cursor is
# one of ours, or that a code has as many digits as its search has cells is more than a schema can say
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]
"""


def run_schemathesis(url: str, directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    (directory / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(directory / "schemathesis.toml"), "run"]
    command += [f"{url}/openapi.json", "--checks", "all", "--seed", "1", "--no-color", "--continue-on-failure"]
    command += ["--request-timeout", "10", "--suppress-health-check", "all", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "num_examples", [pytest.param(3, id="short"), pytest.param(60, id="long", marks=pytest.mark.slow)]
)
def test_no_answer_that_is_not_documented(
    serve_api: Callable[..., str], factory: Any, tmp_path: Path, num_examples: int
) -> None:
    for state in ("succeeded", "running", "failed", "cancelled"):
        search = factory.search(state=state)
        factory.step(search.id, "train_supernet", state="leased" if state == "running" else "done")
    done = run_schemathesis(serve_api(), tmp_path, "--max-examples", str(num_examples))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Stateful" in done.stdout
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 300
    lines = [json.loads(line) for line in (tmp_path / "api.log").read_text().splitlines() if line.startswith("{")]
    assert not [line for line in lines if line["level"] == "error"]
