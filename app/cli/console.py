"""Where a command writes: its one answer to standard output, everything on the way to standard error."""

import contextlib
import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape

from app.cli.errors import CommandError


class _NoticeConsole(Console):
    """Falls silent when its pipe is gone; rich's own would end the process, and send standard output nowhere."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Notices:
    """What is said on the way, on standard error. A terminal that is gone never keeps a command from cleaning up."""

    def __init__(self) -> None:
        self.console = _NoticeConsole(stderr=True, highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        return self.console.is_terminal

    def say(self, message: str) -> None:
        """Print a line."""
        with contextlib.suppress(OSError):
            self.console.print(escape(message))

    def phase(self, phase: str) -> None:
        """Print what the embedded stack is doing."""
        with contextlib.suppress(OSError):
            self.console.print(f"[dim]{time.monotonic() - self._started:5.1f} s  {escape(phase)}[/dim]")

    def error(self, error: CommandError) -> None:
        """Print an error."""
        with contextlib.suppress(OSError):
            self.console.print(f"[bold red]error:[/bold red] {escape(error.message)}")
            for detail in error.details:
                self.console.print(f"  {escape(detail)}")


def print_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def answers() -> Console:
    """Return the console for answers to people; a table is never cut to fit a pipe."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=200)
