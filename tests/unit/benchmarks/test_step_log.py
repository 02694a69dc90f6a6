"""What the fault soak reads from the workers' logs."""

import json
from pathlib import Path
from typing import Any

from benchmarks._step_log import StepLog


def line(event: str, step_id: int, attempt: int, second: int, **values: Any) -> str:
    at = f"2026-01-01T00:00:{second:02d}.000000Z"
    return json.dumps({"event": event, "step_id": step_id, "attempt": attempt, "timestamp": at, **values})


def test_endings_results_of_fenced_attempts_and_repeated_seconds(tmp_path: Path) -> None:
    first = [
        line("step begins", 1, 1, 0),
        line("step ends", 1, 1, 9, ending="done"),  # stored although the second attempt had it
        line("step begins", 2, 1, 10),
        line("step ends", 2, 1, 14, ending="fenced off"),
        line("step begins", 3, 1, 20)[:-9],
    ]
    second = [line("step begins", 1, 2, 5), line("step ends", 1, 2, 8, ending="done"), "a line of another program"]
    second += [line("step begins", 2, 2, 12), line("heartbeat failed", 2, 2, 13)]
    (tmp_path / "worker.log").write_text("\n".join(first))
    (tmp_path / "worker-2.log").write_text("\n".join(second))
    (tmp_path / "api.log").write_text(line("step begins", 9, 9, 9))
    log = StepLog.read(tmp_path)
    assert log.endings() == {"done": 2, "fenced off": 1, "killed": 1}
    assert log.stored_by_earlier_attempts({1: 2, 2: 2}) == 1
    # 0-5 of step 1 and 10-12 of step 2: from then on the attempts overlap with those that count
    assert log.repeated_s() == 7
