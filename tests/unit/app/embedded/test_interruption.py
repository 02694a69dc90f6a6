import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.embedded.interruption import Interrupted, signals_as_interrupt


@pytest.fixture(autouse=True)
def nothing_ignored() -> Iterator[None]:
    """A suite in the background of a script, or run by nohup, ignores signals these tests would wait for."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _signal_and_wait(number: signal.Signals) -> None:
    with signals_as_interrupt():
        os.kill(os.getpid(), number)
        signal.pause()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_an_exception_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as caught:
        _signal_and_wait(number)
    assert caught.value.number == number
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before


def test_further_signals_do_not_disturb_the_orderly_stop() -> None:
    stopped = []

    def stop_in_order() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        stopped.append(True)

    def work() -> None:
        with signals_as_interrupt(), ExitStack() as stack:
            stack.callback(stop_in_order)
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()

    with pytest.raises(Interrupted, match="SIGINT"):
        work()
    assert stopped == [True]


def test_no_handler_for_exceptions_swallows_it() -> None:
    assert not issubclass(Interrupted, Exception)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
