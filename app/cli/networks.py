"""Commands about one architecture's network: train it by itself, and export it to a file."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli import tables
from app.cli.connection import Connection, connect
from app.cli.console import Notices, answers, print_json
from app.cli.errors import FAILED, USAGE, CommandError
from app.cli.following import follow
from app.cli.options import AsJson, SearchId, Url, WebhookUrl, read_settings_of
from app.cli.searches import Detach
from app.client.paths import architecture_path
from app.domain.architecture_export import DESCRIPTION_KEY, ExportFormat, WeightsSource
from app.domain.standalone_recipe import RecipeName
from app.settings import get_settings

Code = Annotated[str, typer.Argument(help="One digit per cell: the index of its choice.", show_default=False)]


def retrain(
    search_id: SearchId,
    code: Code,
    recipe: Annotated[RecipeName, typer.Option(help="Whose values hold for what is not given.")] = "small",
    network: Annotated[
        Literal["proxy", "target"], typer.Option(help="What the search trained, or what limits are about.")
    ] = "proxy",
    from_supernet: Annotated[bool, typer.Option(help="Begin with the supernet's weights: fine-tuning.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the search's.")] = None,
    num_classes: Annotated[
        str | None, typer.Option(metavar="N|all", help="Random class subset, or all classes; default: the search's.")
    ] = None,
    num_images: Annotated[
        str | None, typer.Option(metavar="N|all", help="At most so many images, or all; default: the search's.")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of the images that judge; default: the search's.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A field of the recipe; repeatable.")
    ] = None,
    webhook_url: WebhookUrl = None,
    detach: Detach = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train an architecture by itself, for the accuracy that the search only predicts."""
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "num_classes": _number_or_all(num_classes),
        "num_images": _number_or_all(num_images),
        "validation_fraction": validation_fraction,
        "webhook_url": webhook_url,
    }
    request: dict[str, Any] = {
        "recipe": recipe,
        "network": network,
        "from_supernet": from_supernet,
        **{name: value for name, value in given.items() if value is not None},
        **read_settings_of(settings or []),
    }
    notices, path = Notices(), architecture_path(search_id, code)
    with connect(get_settings(), url, notices, with_workers=True, may_start=not detach) as connection:
        job = connection.api.post(f"{path}/retraining", request)
        notices.say(f"retraining {job['id']} of {code} is queued")
        last = job if detach else follow(connection, job["id"], notices)
        architecture = connection.api.get(path)
    if as_json:
        print_json({"job": last, "architecture": architecture})
    elif detach:
        tables.print_search(answers(), last)
    else:
        tables.print_architecture(answers(), architecture)


def export(
    search_id: SearchId,
    code: Code,
    output: Annotated[Path, typer.Option(help="The file to write.")],
    export_format: Annotated[ExportFormat, typer.Option("--format", help="Of the file.")] = "onnx",
    weights: Annotated[
        WeightsSource, typer.Option(help="The supernet's, with BN statistics of its own, or the latest retraining's.")
    ] = "supernet",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write an architecture's network to a file.

    A safetensors file gets its description beside it, as JSON; a Python module gets its weights, as safetensors.
    """
    if not output.absolute().parent.is_dir():
        raise CommandError(USAGE, f"the directory of {output} does not exist; create it first")
    notices, path = Notices(), architecture_path(search_id, code, "export")
    with connect(get_settings(), url, notices, with_workers=True) as connection:
        _download(connection, path, output, notices, format=export_format, weights=weights)
        written = [output]
        if export_format == "python":
            written.append(output.with_suffix(".safetensors"))
            _download(connection, path, written[-1], notices, format="safetensors", weights=weights)
        if export_format in ("python", "safetensors"):
            written.append(_describe(written[-1]))
    if as_json:
        print_json({"files": [{"path": str(file), "num_bytes": file.stat().st_size} for file in written]})
    else:
        for file in written:
            answers().print(f"{file} ({file.stat().st_size:,} bytes)", markup=False)


def _number_or_all(given: str | None) -> int | str | None:
    """What the API takes; it says what is wrong with anything else."""
    return int(given) if given is not None and re.fullmatch(r"-?[0-9]{1,18}", given) else given


def _download(connection: Connection, path: str, target: Path, notices: Notices, **query: str) -> None:
    """Download an export, following the job that makes it."""
    job = connection.api.download(path, target, **query)
    if job is None:
        return
    follow(connection, job["id"], notices)
    if connection.api.download(path, target, **query) is not None:
        raise CommandError(FAILED, f"the export {job['id']} has succeeded, but its file is gone; try again")


def _describe(weights: Path) -> Path:
    """Write the description in a safetensors file's header to a JSON file beside it."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    description = weights.with_suffix(".json")
    content = json.loads(header["__metadata__"][DESCRIPTION_KEY])
    description.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return description
