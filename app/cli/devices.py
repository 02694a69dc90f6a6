"""``nasatlas devices``: the latencies that lookups can limit."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import tables
from app.cli.connection import connect
from app.cli.console import Notices, answers, print_json
from app.cli.errors import USAGE, CommandError
from app.cli.options import AsJson, Url, read_space
from app.settings import get_settings

commands = typer.Typer(
    help="Register, list and delete devices: the latencies of a space's choices.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="The device.", show_default=False)]
SpaceOption = Annotated[str | None, typer.Option(help="A preset's name, or a JSON file; default: fairnas.")]


@commands.command("list")
def list_devices(url: Url = None, as_json: AsJson = False) -> None:
    """List the devices that you may use."""
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get("/devices")
    if as_json:
        print_json(answer)
    else:
        tables.print_devices(answers(), answer["items"])


@commands.command()
def show(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show one device: its latencies by cell and choice."""
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get(f"/devices/{name}")
    if as_json:
        print_json(answer)
    else:
        tables.print_devices(answers(), answer["items"])
        for device in answer["items"]:
            tables.print_latencies(answers(), device)


@commands.command()
def add(
    name: Name,
    file: Annotated[Path, typer.Argument(help="CSV (cell,choice,latency_ms) or JSON.", show_default=False)],
    search_space: SpaceOption = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Register a device from a file of latencies; what it had for the same networks is replaced."""
    body = _read(file)
    if search_space is not None or "search_space" not in body:
        body["search_space"] = read_space(search_space or "fairnas")
    with connect(get_settings(), url, Notices()) as connection:
        device = connection.api.put(f"/devices/{name}", body)
    if as_json:
        print_json(device)
    else:
        tables.print_devices(answers(), [device])


@commands.command()
def delete(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a device."""
    with connect(get_settings(), url, Notices()) as connection:
        connection.api.delete(f"/devices/{name}")
    if as_json:
        print_json({"deleted": name})
    else:
        answers().print(f"device {name} is deleted", markup=False)


def _read(file: Path) -> dict[str, Any]:
    """The body of a registration: a JSON file's object, or a CSV file's lines."""
    try:
        text = file.read_text(encoding="utf-8")
        body = json.loads(text) if file.suffix == ".json" else {"csv": text}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CommandError(USAGE, f"{file} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise CommandError(USAGE, f"{file} must hold a JSON object with base_ms and cells_ms")
    return body
