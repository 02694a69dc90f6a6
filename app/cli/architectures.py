"""Commands about architectures: look them up under limits, and count what one costs."""

from typing import Annotated, Literal

import typer

from app.cli import tables
from app.cli.connection import connect
from app.cli.console import Notices, answers, print_json
from app.cli.errors import USAGE, CommandError
from app.cli.options import AsJson, Url, read_space
from app.cli.searches import RoundIndex
from app.domain.multi_adds import count as count_costs
from app.domain.search_space import SearchSpace, preset
from app.settings import get_settings


def lookup(
    max_madds: Annotated[float | None, typer.Option(help="Limit of the multi-adds, in millions.")] = None,
    max_params: Annotated[float | None, typer.Option(help="Limit of the parameters, in millions.")] = None,
    max_latency_ms: Annotated[
        list[float] | None, typer.Option(help="Limit of the latency on --device, in milliseconds; repeatable.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="A device; several, each with its own limit; alone: show its latency.")
    ] = None,
    search_id: Annotated[str | None, typer.Option("--search-id", "--search", help="Default: the latest.")] = None,
    round_index: RoundIndex = None,
    scope: Annotated[
        Literal["table", "space"], typer.Option(help="table: a round's; space: all architectures of the space.")
    ] = "table",
    limit: Annotated[int, typer.Option(help="How many architectures, 1 to 100.")] = 10,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Find the best architectures under limits, from a search's table or its whole space."""
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get(
            "/lookup",
            max_madds=max_madds,
            max_params=max_params,
            max_latency_ms=max_latency_ms,
            device=device,
            search_id=search_id,
            round_index=round_index,
            scope=scope,
            limit=limit,
        )
    if as_json:
        print_json(answer)
    else:
        tables.print_lookup(answers(), answer)


def count(
    code: Annotated[str, typer.Argument(help="One digit per cell: the index of its choice.", show_default=False)],
    search_space: Annotated[str, typer.Option(help="A preset's name, or a JSON file.")] = "fairnas",
    num_classes: Annotated[int | None, typer.Option(min=2, max=100_000, help="Default: the space's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the multi-adds and parameters of an architecture as JSON; needs no service."""
    space = _space(search_space)
    if num_classes is not None:
        space = space.model_copy(update={"num_classes": num_classes})
    try:
        architecture = space.parse_code(code)
    except ValueError as error:
        raise CommandError(USAGE, str(error)) from error
    costs = count_costs(space, architecture)
    print_json(
        {
            "search_space": space.name,
            "num_classes": space.num_classes,
            "code": code,
            "readable": space.readable(architecture),
            "multi_adds": costs.multi_adds,
            "params": costs.params,
        }
    )


def _space(given: str) -> SearchSpace:
    reference = read_space(given)
    try:
        return preset(reference) if isinstance(reference, str) else SearchSpace.model_validate(reference)
    except ValueError as error:
        raise CommandError(USAGE, str(error)) from error
