"""``nasatlas devices``: the latencies that lookups can limit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import tables
from app.cli.connection import connect
from app.cli.console import Notices, answers, print_json
from app.cli.errors import USAGE, CommandError
from app.cli.following import follow
from app.cli.options import AsJson, Url, WebhookUrl, read_space
from app.cli.searches import Detach
from app.client.paths import device_path
from app.domain.device_measurement import Runtime
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
    path = device_path(name)
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get(path)
    if as_json:
        print_json(answer)
    else:
        tables.print_devices(answers(), answer["items"])
        for device in answer["items"]:
            tables.print_latencies(answers(), device)


@commands.command()
def add(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(help="CSV (cell,choice,latency_ms), or JSON, also of `show --json`.", show_default=False),
    ],
    search_space: SpaceOption = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Register a device from a file of latencies; what it had for the same networks is replaced."""
    path, body = device_path(name), _shown(_read(file), search_space)
    if search_space is not None or "search_space" not in body:
        body["search_space"] = read_space(search_space or "fairnas")
    with connect(get_settings(), url, Notices()) as connection:
        device = connection.api.put(path, body)
    if as_json:
        print_json(device)
    else:
        tables.print_devices(answers(), [device])


@commands.command()
def measure(
    name: Name,
    search_space: SpaceOption = None,
    runtime: Annotated[Runtime, typer.Option(help="onnxruntime (CPU) or torch (the worker's GPU).")] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="CPU threads per image; 0: all cores.")] = 1,
    webhook_url: WebhookUrl = None,
    detach: Detach = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Measure the machine of a worker and register it as a device."""
    path = device_path(name)
    request: dict[str, Any] = {
        "search_space": read_space(search_space or "fairnas"),
        "runtime": runtime,
        "threads": threads,
    }
    if webhook_url is not None:
        request["webhook_url"] = webhook_url
    notices = Notices()
    with connect(get_settings(), url, notices, with_workers=True, may_start=not detach) as connection:
        job = connection.api.post(f"{path}/measurement", request)
        notices.say(f"measurement {job['id']} of {name} is queued")
        last = job if detach else follow(connection, job["id"], notices)
        devices = [] if detach else connection.api.get(path)["items"]
    if as_json:
        print_json({"job": last, "devices": devices})
    elif detach:
        tables.print_search(answers(), last)
    else:
        tables.print_devices(answers(), devices)


@commands.command()
def bundle(
    output: Annotated[Path, typer.Option(help="The zip archive to write.")] = Path("bundle.zip"),
    search_space: SpaceOption = None,
    as_json: AsJson = False,
) -> None:
    """Write what measures another machine: ONNX models and a script that needs Python and onnxruntime alone.

    Copy it there, unzip the script, run `python latency_measurement.py bundle.zip`, and register the device.json that
    it writes with `nasatlas devices add NAME device.json`.
    """
    given = read_space(search_space or "fairnas")
    # a program of its own: the command line knows nothing of the workers' packages
    command = [sys.executable, "-m", "worker.latency_bundle", str(output)]
    done = subprocess.run(command, input=json.dumps(given), text=True, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CommandError(USAGE, f"no bundle was written: {reason}")
    if as_json:
        print_json({"bundle": str(output)})
    else:
        on_target = f"python latency_measurement.py {output.name}"
        answers().print(f"{output} is written; unzip its script on the target, and there: {on_target}", markup=False)


@commands.command()
def delete(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a device."""
    path = device_path(name)
    with connect(get_settings(), url, Notices()) as connection:
        connection.api.delete(path)
    if as_json:
        print_json({"deleted": name})
    else:
        answers().print(f"device {name} is deleted", markup=False)


def _read(file: Path) -> dict[str, Any]:
    """The body of a registration: a JSON file's object, or a CSV file's lines."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        body = json.loads(text) if file.suffix == ".json" else {"csv": text}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CommandError(USAGE, f"{file} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise CommandError(USAGE, f"{file} must hold a JSON object with base_ms and cells_ms")
    return body


def _shown(body: dict[str, Any], search_space: str | None) -> dict[str, Any]:
    """The body as it is, or what registers again what ``show --json`` has told of a device."""
    if "items" not in body:
        return body
    try:
        by_space = {
            item["search_space"]: {name: item[name] for name in ("search_space", "base_ms", "cells_ms", "report")}
            for item in reversed(body["items"])  # your own come before everybody's
        }
    except (TypeError, KeyError) as error:
        raise CommandError(USAGE, f"the items are not those of `nasatlas devices show --json`: {error}") from error
    if len(by_space) == 1:
        return next(iter(by_space.values()))
    if search_space not in by_space:
        known = ", ".join(sorted(by_space)) or "none"
        raise CommandError(USAGE, f"the file holds latencies for {known}; name one of these with --search-space")
    return by_space[search_space]
