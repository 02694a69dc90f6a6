"""Ctrl-C, ``kill`` and a closed terminal all become one exception, so that ``with`` blocks end in order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The process was asked to end. A ``KeyboardInterrupt``, so that no ``except Exception`` swallows it.

    Attributes:
        number: The signal that came.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.number = number

    @property
    def exit_status(self) -> int:
        """The status a shell expects from a program that ends so: 128 + the signal's number."""
        return 128 + int(self.number)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Raise :class:`Interrupted` in the main thread at the first SIGINT, SIGTERM or SIGHUP.

    Later ones are ignored until the block is left: an orderly stop takes seconds at most, and a second Ctrl-C in its
    middle would leave it half done. A SIGHUP that was ignored before (``nohup``) stays ignored.
    """
    came = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise Interrupted(signal.Signals(number))

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if not (number == signal.SIGHUP and previous[number] == signal.SIG_IGN):
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
