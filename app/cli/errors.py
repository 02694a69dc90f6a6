"""What ends a command: an exit code, and a message for people."""

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what was asked.

    Attributes:
        exit_code: The process's exit status.
        message: What is wrong and what to do.
        details: More lines, one per thing that is wrong.
    """

    def __init__(self, exit_code: int, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.details = details


class BusyError(CommandError):
    """The service takes no more requests for the moment.

    Attributes:
        retry_after_s: When it is worth trying again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(USAGE, message)
        self.retry_after_s = retry_after_s
