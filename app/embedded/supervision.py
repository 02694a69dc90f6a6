"""Programs of the stack that are started again when they end by themselves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.embedded.process import ChildProcess

SHORT_LIFE_S = 10.0
MAX_SHORT_LIVES = 5
"""A program that ends this often in a row within ``SHORT_LIFE_S`` of its start is not started again."""


@dataclass(frozen=True)
class ServiceFailure:
    """A program of the stack that ended although nobody stopped it.

    Attributes:
        name: The program, e.g. ``worker``.
        exit_status: Its exit status, 128 + n after signal n.
        log_path: Its log.
        log_tail: The last lines of it.
    """

    name: str
    exit_status: int
    log_path: Path
    log_tail: str

    def __str__(self) -> str:
        return f"{self.name} ended with status {self.exit_status}. The end of {self.log_path}:\n{self.log_tail}"


class Supervised:
    """A running program and how to start it again."""

    def __init__(
        self, process: ChildProcess, restart: Callable[[], ChildProcess], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch a program that was just started.

        Args:
            process: The program.
            restart: Starts another one in its place.
            clock: Seconds that only increase.
        """
        self.process = process
        self._restart = restart
        self._clock = clock
        self._started_s = clock()
        self._short_lives = 0

    def failure(self) -> ServiceFailure | None:
        """Return how the program ended, None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        spec = self.process.spec
        return ServiceFailure(spec.name, status, spec.log_path, self.process.log_tail())

    def start_again(self) -> bool:
        """Start the program again after it has ended; False if it has ended too often to try.

        Raises:
            EmbeddedStackError: It cannot start.
        """
        now_s = self._clock()
        self._short_lives = self._short_lives + 1 if now_s - self._started_s < SHORT_LIFE_S else 0
        if self._short_lives >= MAX_SHORT_LIVES:
            return False
        self._started_s = now_s
        self.process = self._restart()
        return True
