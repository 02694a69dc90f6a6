"""The ``nasatlas`` command; what its exit codes say is in its help."""

import contextlib
import os
import sys
from importlib.metadata import version as installed_version

import structlog
import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from app.cli import architectures, backups, data_sets, demo, devices, keys, networks, searches, services
from app.cli.console import Notices, print_json
from app.cli.errors import FAILED, INTERRUPTED, OK, UNREACHABLE, USAGE, CommandError
from app.cli.options import AsJson
from app.client.errors import BadNameError
from app.embedded.interruption import signals_as_interrupt

_EXIT_CODES = (
    f"Exit codes: {OK} done; {FAILED} the search or job failed or was cancelled, or the service failed; "
    f"{USAGE} the request or the environment is not valid; {UNREACHABLE} no service can be reached or started; "
    f"{INTERRUPTED} interrupted."
)

app = typer.Typer(
    name="nasatlas",
    help="Fit the whole search space of a weight-sharing architecture search, and ask its tables.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    services.serve,
    services.worker,
    searches.search,
    searches.status,
    architectures.lookup,
    searches.pairs,
    searches.cancel,
    searches.resume,
    architectures.count,
    networks.retrain,
    networks.export,
    demo.demo,
    backups.backup,
    backups.restore,
):
    app.command()(command)
app.add_typer(data_sets.commands, name="datasets")
app.add_typer(devices.commands, name="devices")
app.add_typer(keys.commands, name="keys")


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": installed_version("nasatlas")})
    else:
        typer.echo(f"nasatlas {installed_version('nasatlas')}")


def main() -> None:
    """Run the command line and exit."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    status = run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # the reader is gone (a closed terminal, `| head`): nothing may fail once more when Python ends
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; Ctrl-C, SIGTERM and SIGHUP end it in order, however often they come."""
    with signals_as_interrupt():
        try:
            return app(arguments, prog_name="nasatlas", standalone_mode=False) or OK
        except CommandError as error:
            Notices().error(error)
            return error.exit_code
        except BadNameError as error:
            Notices().error(CommandError(USAGE, str(error)))
            return USAGE
        except ValidationError as error:
            # the settings are read by the first command that needs them
            problems = tuple(f"NASATLAS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            Notices().error(CommandError(USAGE, "the environment or .env is not valid", problems))
            return USAGE
        except TyperException as error:
            show = getattr(error, "show", None)
            if callable(show):
                show()
            return error.exit_code
        except KeyboardInterrupt:
            return INTERRUPTED
