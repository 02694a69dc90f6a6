"""Which service a command talks to: the one it is told, the one that runs on the state directory, or one of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.cli.client import ApiClient
from app.cli.console import Notices
from app.cli.errors import UNREACHABLE, CommandError
from app.embedded.errors import EmbeddedStackError
from app.embedded.process_table import is_alive
from app.embedded.running_stack import RunningStack, find_running_stack
from app.embedded.stack import Stack
from app.settings import Settings


@dataclass(frozen=True)
class Connection:
    """A service to talk to.

    Attributes:
        api: Its API.
        stack: The embedded stack that this command started for it; None where it runs anyway.
        joined: The stack of another command on this machine, None where the service is elsewhere.
    """

    api: ApiClient
    stack: Stack | None = None
    joined: RunningStack | None = None

    def check(self) -> None:
        """Keep the programs of our own stack up.

        Raises:
            CommandError: If one ends again and again, or cannot be started again; or if the service was another
                command's, and that has ended.
        """
        if self.joined is not None and not is_alive(self.joined.pid):
            raise CommandError(
                UNREACHABLE,
                "the command that ran the service has ended, and the service with it; `nasatlas serve` would stay",
            )
        try:
            failures = self.stack.keep_up() if self.stack is not None else []
        except EmbeddedStackError as error:
            raise CommandError(UNREACHABLE, str(error)) from error
        if failures:
            raise CommandError(UNREACHABLE, "\n".join(map(str, failures)))


@contextmanager
def connect(
    settings: Settings, url: str | None, notices: Notices, *, with_workers: bool = False, may_start: bool = True
) -> Iterator[Connection]:
    """Connect to the service, starting one on the state directory for as long as the block lasts if need be.

    Args:
        settings: Where things are.
        url: The address that the user gave.
        notices: Told what is going on.
        with_workers: Whether a service of our own must be able to work on searches.
        may_start: False if a service of our own would be of no use.

    Raises:
        CommandError: If there is no service and none can be started.
    """
    running = find_running_stack(settings.state_dir)
    given = url or settings.url
    address = given or (running.api_url if running is not None else None)
    if address is not None:
        with ApiClient(address, settings.api_key) as api:
            yield Connection(api, joined=None if given else running)
        return
    if not may_start:
        raise CommandError(
            UNREACHABLE,
            "no service is running that could go on with the search; start `nasatlas serve` in another terminal, or "
            "give --url, or leave out --detach",
        )
    try:
        with (
            Stack(settings.state_dir, with_workers=with_workers, on_phase=notices.phase) as stack,
            ApiClient(stack.url, settings.api_key) as api,
        ):
            yield Connection(api, stack)
    except EmbeddedStackError as error:
        raise CommandError(UNREACHABLE, str(error)) from error
