"""Options that several commands have, and the reading of their values."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import USAGE, CommandError

Url = Annotated[str | None, typer.Option("--url", help="Address of the service; default: NASATLAS_URL, or one here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; everything else goes to stderr.")]
WebhookUrl = Annotated[
    str | None, typer.Option("--webhook-url", help="Told by a signed POST when it has ended; an https URL.")
]
SearchId = Annotated[str, typer.Argument(help="The search's id.", show_default=False)]


def read_space(given: str) -> str | dict[str, Any]:
    """Return a search space's name, or the content of a JSON file that describes one.

    Raises:
        CommandError: If the file cannot be read or is no JSON object.
    """
    path = Path(given)
    if path.suffix != ".json" and "/" not in given:
        return given
    try:
        space = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CommandError(USAGE, f"the search space {given} cannot be read as JSON: {error}") from error
    if not isinstance(space, dict):
        raise CommandError(USAGE, f"the search space {given} must be a JSON object with stem, cells and head")
    return space


def read_settings_of(assignments: list[str]) -> dict[str, Any]:
    """Return the values of ``--set key=value``: JSON where it is some, else the text itself.

    Raises:
        CommandError: If one has no key, or is named twice.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        key = key.strip()
        if not separator or not key:
            raise CommandError(USAGE, f"--set wants key=value, e.g. --set epochs=10, not {assignment!r}")
        if key in values:
            raise CommandError(USAGE, f"--set names {key} twice; give it one value")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
        except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
            raise CommandError(USAGE, f"--set {key}: {error}") from error
    return values
