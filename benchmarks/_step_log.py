"""What the workers' logs say of each attempt at a step: when it began, and how it ended, if it lived to say so."""

import contextlib
import datetime as dt
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Attempt = tuple[int, int]
"""A step's id, and the number of the attempt."""


@dataclass
class StepLog:
    """All attempts at steps.

    Attributes:
        began: When each began.
        ended: When each ended, and how; one that was killed has no end.
    """

    began: dict[Attempt, dt.datetime] = field(default_factory=dict)
    ended: dict[Attempt, tuple[dt.datetime, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, logs: Path) -> "StepLog":
        """Read the logs of all workers in a directory."""
        found = cls()
        for line in _lines(logs):
            attempt, at = (line["step_id"], line["attempt"]), dt.datetime.fromisoformat(line["timestamp"])
            if line["event"] == "step begins":
                found.began[attempt] = at
            elif line["event"] == "step ends":
                found.ended[attempt] = (at, line["ending"])
        return found

    def endings(self) -> Counter[str]:
        """Return how often attempts ended in each way; ``killed``: without a word."""
        return Counter(self.ended[attempt][1] if attempt in self.ended else "killed" for attempt in self.began)

    def stored_by_earlier_attempts(self, last_attempts: Mapping[int, int]) -> int:
        """Return how many attempts stored a result although a later one had the step: those should all be fenced.

        Args:
            last_attempts: The number of the last attempt at each step, by the database.
        """
        stored = [attempt for attempt, (_, ending) in self.ended.items() if ending == "done"]
        return sum(number != last_attempts[step_id] for step_id, number in stored)

    def repeated_s(self) -> float:
        """Return the seconds of all attempts but the last of each step: what faults cost, at most.

        Work that a checkpoint saved counts as well, and an attempt that was killed as if it had lasted until the next.
        """
        by_step: dict[int, list[int]] = defaultdict(list)
        for step_id, number in sorted(self.began):
            by_step[step_id].append(number)
        total_s = 0.0
        for step_id, numbers in by_step.items():
            for number, following in itertools.pairwise(numbers):
                until = self.began[step_id, following]
                if (step_id, number) in self.ended:
                    until = min(until, self.ended[step_id, number][0])
                total_s += (until - self.began[step_id, number]).total_seconds()
        return total_s


def _lines(logs: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(logs.glob("worker*.log")):
        for line in path.read_bytes().splitlines():
            # a worker that is killed may have written half a line; other programs' lines are no JSON
            with contextlib.suppress(ValueError):
                parsed = json.loads(line)
                if isinstance(parsed, dict) and str(parsed.get("event")).startswith("step "):
                    yield parsed
