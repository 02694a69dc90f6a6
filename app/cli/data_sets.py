"""``nasatlas datasets``: the images that searches can train on."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.connection import connect
from app.cli.console import Notices, answers, print_json
from app.cli.options import AsJson, Url
from app.client.paths import data_set_path
from app.settings import get_settings

commands = typer.Typer(help="List, look into, upload and delete data sets of images.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The data set.", show_default=False)]


@commands.command("list")
def list_data_sets(url: Url = None, as_json: AsJson = False) -> None:
    """List the data sets that you may search on."""
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get("/datasets")
    if as_json:
        print_json(answer)
        return
    table = Table("data set", "origin", "size", "since")
    for item in answer["items"]:
        created_at = (item["created_at"] or "-")[:16].replace("T", " ")
        table.add_row(item["name"], item["origin"], megabytes(item["num_bytes"]), created_at)
    answers().print(table)


@commands.command()
def show(
    name: Name,
    examine: Annotated[
        int | None,
        typer.Option(min=1, max=20_000, help="Decode so many images in full; default: as before a search."),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a data set holds: classes, sizes and kinds of images, and those that cannot be read."""
    path = data_set_path(name)
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get(path, examine=examine)
    _print_answer(answer, as_json)


@commands.command()
def upload(
    name: Name,
    archive: Annotated[Path, typer.Argument(help="A zip archive: one folder of images per class.", show_default=False)],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a zip archive of images as a data set of your own."""
    path = data_set_path(name)
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.upload(path, archive)
    _print_answer(answer, as_json)


@commands.command()
def delete(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a data set that you have uploaded."""
    path = data_set_path(name)
    with connect(get_settings(), url, Notices()) as connection:
        connection.api.delete(path)
    if as_json:
        print_json({"deleted": name})
    else:
        answers().print(f"data set {name} is deleted", markup=False)


def megabytes(num_bytes: int | None) -> str:
    """Return a size in MB, or a dash."""
    return "-" if num_bytes is None else f"{num_bytes / 1e6:,.1f} MB"


def _print_answer(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    console = answers()
    table = Table("class", "images", title=f"{answer['name']}: {answer['num_images']:,} images")
    for one in answer["classes"]:
        table.add_row(one["name"], f"{one['num_images']:,}")
    console.print(table)
    sizes = ", ".join(f"{size['width']}x{size['height']} ({size['num_images']})" for size in answer["sizes"][:5])
    modes = ", ".join(f"{mode} ({count})" for mode, count in answer["modes"].items())
    more = ", ..." if answer["num_sizes"] > 5 else ""
    examined = f"{answer['num_examined']:,} images examined, {answer['num_decoded']:,} of them in full"
    console.print(f"{examined}: {sizes or '-'}{more}; {modes or '-'}", markup=False)
    if answer.get("num_ignored"):
        ignored = ", ".join(answer["ignored"][:5])
        console.print(f"{answer['num_ignored']} files of the archive were left out: {ignored}", markup=False)
    if answer["num_broken"]:
        console.print(f"{answer['num_broken']:,} cannot be read; mend or remove them before a search:", markup=False)
        for one in answer["broken"]:
            console.print(f"  {one['file']}: {one['problem']}", markup=False)
        if (num_more := answer["num_broken"] - len(answer["broken"])) > 0:
            console.print(f"  and {num_more:,} more", markup=False)
