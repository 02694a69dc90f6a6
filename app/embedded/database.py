"""The embedded stack's database alone, for commands that work on it directly."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.db.migrate import migrate
from app.embedded.directories import make_socket_directory, remove_socket_directory
from app.embedded.errors import DirectoryInUseError
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.running_stack import find_running_stack, stack_lock


@contextmanager
def stack_database(state_dir: Path, *, newest_schema: bool = True, may_run: bool = True) -> Iterator[str]:
    """Give the SQLAlchemy URL of the database in a state directory.

    That of the stack that runs there; where none does, the server is started for as long as the block lasts.

    Args:
        state_dir: The stack's directory.
        newest_schema: Whether to bring the schema up to date first; a running stack has done so itself.
        may_run: False for what cannot be done while the stack runs.

    Raises:
        DirectoryInUseError: A stack is just starting or ending there, or runs and may not.
        EmbeddedStackError: The server cannot run here.
    """
    running = find_running_stack(state_dir)
    if running is not None:
        if not may_run:
            raise DirectoryInUseError(
                f"the stack on {state_dir.absolute()} is running (process {running.pid}); stop it first"
            )
        yield running.database_url
        return
    state_dir = state_dir.absolute()
    with ExitStack() as cleanup:
        lock = stack_lock(state_dir)
        lock.acquire()
        cleanup.callback(lock.release)
        socket_dir = make_socket_directory()
        cleanup.callback(remove_socket_directory, socket_dir)
        log_path = state_dir / "logs" / "postgres.log"
        server = cleanup.enter_context(EmbeddedPostgres(state_dir / "postgres", socket_dir, log_path=log_path))
        if newest_schema:
            migrate(server.url)
        yield server.url
