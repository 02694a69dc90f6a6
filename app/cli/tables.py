"""Answers of the service as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.progress import duration


def millions(count: int) -> str:
    """Return a count in millions, e.g. ``388.1M``."""
    return f"{count / 1e6:.1f}M" if count >= 10_000_000 else f"{count / 1e6:.2f}M"


def percent(accuracy: float | None) -> str:
    """Return an accuracy in percent, or a dash."""
    return "-" if accuracy is None else f"{accuracy:.2%}"


def print_searches(console: Console, searches: list[dict[str, Any]]) -> None:
    """Print a list of searches."""
    if not searches:
        console.print("there are no searches yet; start one with: nasatlas search --dataset digits")
        return
    table = Table("search", "created", "data set", "space", "state", "phase", "progress", "best")
    for search in searches:
        final = search["final"]
        table.add_row(
            search["id"],
            search["created_at"][:16].replace("T", " "),
            search["dataset"],
            search["search_space"],
            search["state"],
            search["phase"].replace("_", " "),
            f"{search['progress']:.0%}",
            percent(final and final["accuracy"]),
        )
    console.print(table)


def print_search(console: Console, search: dict[str, Any]) -> None:
    """Print where a search stands and what it has found."""
    eta = "" if search["eta_s"] is None else f", about {duration(search['eta_s'])} left"
    console.print(f"search {search['id']} on {search['dataset']}, {search['search_space']}, preset {search['preset']}")
    console.print(f"{search['state']}, {search['phase'].replace('_', ' ')}, {search['progress']:.0%}{eta}")
    if search["error"]:
        console.print(f"error: {search['error']}", markup=False)
    for name in ("target", "proxy"):
        network = search["networks"][name]
        costs = network["multi_adds"]
        console.print(
            f"{name}: {network['resolution']} pixels, width {network['width']:g}, {network['num_classes']} classes, "
            f"{millions(costs['min'])} to {millions(costs['max'])} multi-adds"
        )
    table = Table("round", "cells", "state", "sampled", "tau (held out)", "best", "multi-adds", "architecture", "table")
    for found in search["rounds"]:
        best = found["best"]
        tau = found["held_out_tau"]
        table.add_row(
            str(found["round_index"] + 1),
            f"{found['segment'][0]}-{found['segment'][-1]}",
            found["state"].replace("_", " "),
            str(found["num_sampled"]),
            "-" if tau is None else f"{tau:.3f}",
            percent(best and best["accuracy"]),
            millions(best["multi_adds"]) if best else "-",
            best["code"] if best else "-",
            f"{found['num_rows']:,} rows" if found["num_rows"] else "-",
        )
    console.print(table)
    if final := search["final"]:
        console.print(
            f"best: {percent(final['accuracy'])} at {millions(final['multi_adds'])} multi-adds, "
            f"{millions(final['params'])} parameters: {final['code']}  {final['readable']}"
        )


def print_lookup(console: Console, answer: dict[str, Any], title: str | None = None) -> None:
    """Print the architectures that a lookup found, or why there are none."""
    if not answer["items"]:
        console.print(answer["message"], markup=False)
        return
    table = Table("rank", "predicted", "sampled", "re-evaluated", "multi-adds", "parameters", "code", title=title)
    for item in answer["items"]:
        table.add_row(
            str(item["rank"]),
            percent(item["predicted_accuracy"]),
            percent(item["sampled_accuracy"]),
            percent(item["reevaluated_accuracy"]),
            millions(item["multi_adds"]),
            millions(item["params"]),
            item["code"],
        )
    console.print(table)
    best = answer["items"][0]
    console.print(f"best: {best['readable']}")
    which = "the whole space" if answer["round_index"] is None else f"round {answer['round_index'] + 1}"
    console.print(f"from {answer['num_rows']:,} architectures: search {answer['search_id']}, {which}")


def print_pairs(console: Console, pairs: list[dict[str, Any]]) -> None:
    """Print arch-accuracy pairs."""
    table = Table("round", "source", "accuracy", "held out", "code")
    for pair in pairs:
        table.add_row(
            str(pair["round_index"] + 1),
            pair["source"],
            percent(pair["accuracy"]),
            "yes" if pair["held_out"] else "",
            pair["code"],
        )
    console.print(table)
