"""``nasatlas demo``: one whole search on real images, then a few constrained lookups."""

import time
from typing import Any

from rich.table import Table

from app.cli import tables
from app.cli.connection import connect
from app.cli.console import Notices, answers, print_json
from app.cli.following import follow
from app.cli.options import AsJson, Url
from app.cli.progress import duration
from app.settings import get_settings

REQUEST = {
    "dataset": "digits",
    "search_space": "fairnas",
    "preset": "quick",
    # the paper's GCN, so that the whole of its method is seen; requests get auto unless they say otherwise
    "predictor": "paper",
    "seed": 0,
    "target_madds": [400, 360],
}
LOOKUPS: tuple[dict[str, Any], ...] = (
    {},
    {"max_madds": 450},
    {"max_madds": 400},
    {"max_madds": 380, "max_params": 4.0},
    {"max_madds": 360},
    {"max_madds": 300},
    {"max_madds": 300, "scope": "space"},
    {"max_madds": 250, "scope": "space"},
)


def demo(url: Url = None, as_json: AsJson = False) -> None:
    """Run a whole search on the digits data set with the paper's 19-cell space, and ask its tables."""
    started = time.monotonic()
    settings, notices = get_settings(), Notices()
    with connect(settings, url, notices, with_workers=True) as connection:
        submitted = connection.api.post("/search", REQUEST)
        notices.say(f"search {submitted['id']}: the 6^19 architectures of FairNAS on the digits of scikit-learn")
        search = follow(connection, submitted["id"], notices)
        found = [
            {"limits": limits, "answer": connection.api.get("/lookup", search_id=search["id"], limit=1, **limits)}
            for limits in LOOKUPS
        ]
        where = connection.api.url if connection.stack is None else str(connection.stack.state_dir)
        took_s = time.monotonic() - started
        if as_json:
            print_json({"search": search, "lookups": found, "took_s": took_s, "data": where})
        else:
            _print(search, found)
            answers().print(
                f"\nthe whole search took {duration(took_s)}; its data are in {where}. "
                "Ask more with: nasatlas lookup --max-madds 400"
            )


def _print(search: dict[str, Any], found: list[dict[str, Any]]) -> None:
    console = answers()
    tables.print_search(console, search)
    table = Table("limits", "predicted", "multi-adds", "parameters", "architecture")
    for lookup in found:
        limits = ", ".join(f"{name}={value}" for name, value in lookup["limits"].items()) or "none"
        items = lookup["answer"]["items"]
        if items:
            best = items[0]
            costs = (tables.millions(best["multi_adds"]), tables.millions(best["params"]))
            table.add_row(limits, tables.percent(best["predicted_accuracy"]), *costs, best["readable"])
        else:
            table.add_row(limits, "-", "-", "-", lookup["answer"]["message"])
    console.print(table)
