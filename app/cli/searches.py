"""Commands about searches: submit and follow, status, pairs, cancel, resume."""

from typing import Annotated, Any

import typer

from app.cli import tables
from app.cli.connection import Connection, connect
from app.cli.console import Notices, answers, print_json
from app.cli.errors import USAGE, CommandError
from app.cli.following import follow
from app.cli.options import AsJson, SearchId, Url, WebhookUrl, read_settings_of, read_space
from app.client.calls import PAGE_SIZE
from app.client.paths import search_path
from app.domain.search_config import PresetName
from app.domain.steps import PairSource
from app.domain.whole_percent import whole_percent
from app.settings import get_settings

Detach = Annotated[bool, typer.Option("--detach", help="Do not follow; needs a service that runs anyway.")]
RoundIndex = Annotated[
    int | None, typer.Option("--round", min=0, help="The round, from 0, as tables and progress show it.")
]


def search(
    dataset: Annotated[str, typer.Option(help="Name of the data set.")] = "digits",
    search_space: Annotated[str, typer.Option(help="A preset's name, or a JSON file.")] = "fairnas",
    preset: Annotated[PresetName, typer.Option(help="Whose values hold for what is not given.")] = "quick",
    seed: Annotated[int, typer.Option(help="Same seed, same table.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A field of the configuration; repeatable.")
    ] = None,
    webhook_url: WebhookUrl = None,
    detach: Detach = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Run a search: train the supernet, sample, fit the GCN, re-evaluate, round by round."""
    request: dict[str, Any] = {
        "dataset": dataset,
        "search_space": read_space(search_space),
        "preset": preset,
        "seed": seed,
        **({} if webhook_url is None else {"webhook_url": webhook_url}),
        **read_settings_of(settings or []),
    }
    notices = Notices()
    with connect(get_settings(), url, notices, with_workers=True, may_start=not detach) as connection:
        submitted = connection.api.post("/search", request)
        notices.say(f"search {submitted['id']} on {dataset} is queued")
        _finish(connection, submitted, notices, detach=detach, as_json=as_json)


def resume(search_id: SearchId, detach: Detach = False, url: Url = None, as_json: AsJson = False) -> None:
    """Let a failed, cancelled or interrupted search go on, and follow it; one that has succeeded is shown."""
    notices, path = Notices(), search_path(search_id)
    with connect(get_settings(), url, notices, with_workers=True, may_start=not detach) as connection:
        resumed = _resumed(connection, path)
        is_over = resumed["state"] == "succeeded"
        what = "has succeeded already" if is_over else f"goes on at {whole_percent(resumed['progress'])}%"
        notices.say(f"search {search_id} {what}")
        _finish(connection, resumed, notices, detach=detach or is_over, as_json=as_json)


def _resumed(connection: Connection, path: str) -> dict[str, Any]:
    """Let a search go on and return it; one that has succeeded, perhaps a moment ago, has nothing left to do."""
    try:
        resumed: dict[str, Any] = connection.api.post(f"{path}/resume")
        return resumed
    except CommandError as error:
        if error.exit_code != USAGE:
            raise
        search: dict[str, Any] = connection.api.get(path)
        if search["state"] != "succeeded":
            raise
        return search


def _finish(connection: Connection, started: dict[str, Any], notices: Notices, *, detach: bool, as_json: bool) -> None:
    """Follow a search that was started, unless the user does not want to, and print what is known then."""
    last = started if detach else follow(connection, started["id"], notices)
    if as_json:
        print_json(last)
    else:
        tables.print_search(answers(), last)


def status(
    search_id: Annotated[str | None, typer.Argument(help="The search's id; without it all are listed.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say where a search stands, or list the latest searches."""
    path = None if search_id is None else search_path(search_id)
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.get("/search", size=PAGE_SIZE) if path is None else connection.api.get(path)
    if as_json:
        print_json(answer)
    elif search_id is None:
        tables.print_searches(answers(), answer["items"])
    else:
        tables.print_search(answers(), answer)


def pairs(
    search_id: SearchId,
    round_index: RoundIndex = None,
    source: Annotated[PairSource | None, typer.Option(help="Default: both.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many; 0: all.")] = 50,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the arch-accuracy pairs of a search."""
    path = search_path(search_id, "pairs")
    with connect(get_settings(), url, Notices()) as connection:
        found = connection.api.pages(path, limit, round_index=round_index, source=source)
    if as_json:
        print_json({"items": found})
    else:
        tables.print_pairs(answers(), found)


def cancel(search_id: SearchId, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a search within seconds; what it has found stays."""
    path = search_path(search_id, "cancel")
    with connect(get_settings(), url, Notices()) as connection:
        answer = connection.api.post(path)
    if as_json:
        print_json(answer)
    else:
        console = answers()
        console.print(f"search {search_id} is {answer['state']}; go on with: nasatlas resume {search_id}")
