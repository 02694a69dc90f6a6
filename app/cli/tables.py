"""Answers of the service as tables for people."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.progress import duration
from app.domain.whole_percent import whole_percent


def millions(count: int) -> str:
    """Return a count in millions, e.g. ``388.1M``."""
    return f"{count / 1e6:.1f}M" if count >= 10_000_000 else f"{count / 1e6:.2f}M"


def percent(accuracy: float | None) -> str:
    """Return an accuracy in percent, or a dash."""
    return "-" if accuracy is None else f"{accuracy:.2%}"


def predicted(found: dict[str, Any]) -> str:
    """Return a predicted accuracy with the interval of z around it, e.g. ``86.41% [84.6, 88.3]``."""
    interval = found.get("interval")
    bounds = "" if interval is None else f" [{100 * interval['lower']:.1f}, {100 * interval['upper']:.1f}]"
    return percent(found.get("predicted_accuracy")) + bounds


def _predicted_title(found: Iterable[dict[str, Any]]) -> str:
    """The title of a column of predictions, with the level of their intervals."""
    levels = [one["interval"]["level"] for one in found if one.get("interval")]
    return f"predicted [{levels[0]:.0%}]" if levels else "predicted"


def milliseconds(latency_ms: float) -> str:
    """Return a latency with three significant digits."""
    return f"{latency_ms:.3g}"


def print_devices(console: Console, devices: list[dict[str, Any]]) -> None:
    """Print a list of devices."""
    if not devices:
        console.print("there are no devices yet; register one with: nasatlas devices add NAME FILE.csv")
        return
    table = Table("device", "search space", "origin", "fastest", "slowest", "error of the sum", "since")
    for device in devices:
        report = device["report"] or {}
        error = report.get("mean_relative_error")
        table.add_row(
            device["name"],
            device["search_space"],
            device["origin"],
            f"{milliseconds(device['min_ms'])} ms",
            f"{milliseconds(device['max_ms'])} ms",
            "-" if error is None else f"{error:.1%}",
            device["created_at"][:16].replace("T", " "),
        )
    console.print(table)


def print_latencies(console: Console, device: dict[str, Any]) -> None:
    """Print a device's latencies, a row per cell."""
    widest = max(map(len, device["cells_ms"]))
    title = f"{device['name']}, {device['search_space']}: stem and head {milliseconds(device['base_ms'])} ms"
    table = Table("cell", *(f"choice {choice}" for choice in range(widest)), title=title)
    for cell_index, cell in enumerate(device["cells_ms"]):
        table.add_row(str(cell_index), *map(milliseconds, cell))
    console.print(table)


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
            f"{whole_percent(search['progress'])}%",
            percent(final and final["accuracy"]),
        )
    console.print(table)


def print_job(console: Console, job: dict[str, Any]) -> None:
    """Print where a job about an architecture of a search stands."""
    eta = "" if job["eta_s"] is None else f", about {duration(job['eta_s'])} left"
    of_search = f" of search {job['origin_id']}" if job["origin_id"] else ""
    console.print(f"{job['kind']} {job['id']}{of_search}")
    console.print(f"{job['state']}, {whole_percent(job['progress'])}%{eta}")
    if job["error"]:
        console.print(f"error: {job['error']}", markup=False)
    if job["final"]:
        console.print(f"{job['final']['code']}: {percent(job['final']['accuracy'])} after training by itself")


def print_architecture(console: Console, architecture: dict[str, Any]) -> None:
    """Print what is predicted, sampled and true of an architecture."""
    console.print(f"{architecture['code']}  {architecture['readable']}")
    console.print(f"{millions(architecture['multi_adds'])} multi-adds, {millions(architecture['params'])} parameters")
    table = Table("accuracy", "how it is known")
    for prediction in architecture["predictions"]:
        table.add_row(percent(prediction["predicted_accuracy"]), f"predicted in round {prediction['round_index']}")
    for pair in architecture["pairs"]:
        table.add_row(percent(pair["accuracy"]), f"{pair['source']} in round {pair['round_index']}")
    for trained in architecture["standalone"]:
        start = "from the supernet's weights" if trained["from_supernet"] else "from scratch"
        how = f"trained {start}: {trained['recipe']} recipe, {trained['epochs']} epochs, seed {trained['seed']}"
        table.add_row(percent(trained["accuracy"]), f"{how}, {trained['network']} network")
    console.print(table)


def print_search(console: Console, search: dict[str, Any]) -> None:
    """Print where a search stands and what it has found."""
    if search["kind"] != "search":
        print_job(console, search)
        return
    eta = "" if search["eta_s"] is None else f", about {duration(search['eta_s'])} left"
    console.print(f"search {search['id']} on {search['dataset']}, {search['search_space']}, preset {search['preset']}")
    console.print(f"{search['state']}, {search['phase'].replace('_', ' ')}, {whole_percent(search['progress'])}%{eta}")
    if search["error"]:
        console.print(f"error: {search['error']}", markup=False)
    for name in ("target", "proxy"):
        network = search["networks"][name]
        costs = network["multi_adds"]
        console.print(
            f"{name}: {network['resolution']} pixels, width {network['width']:g}, {network['num_classes']} classes, "
            f"{millions(costs['min'])} to {millions(costs['max'])} multi-adds"
        )
    _print_rounds(console, search["rounds"])
    if search["final"]:
        _print_final(console, search["final"])
    if (known := search["standalone"]) and known["tau_predicted"] is not None:
        sampled = "" if known["tau_sampled"] is None else f" (of the sampled accuracy: {known['tau_sampled']:.3f})"
        console.print(
            f"tau of the prediction against {known['num_predicted']} networks trained by themselves: "
            f"{known['tau_predicted']:.3f}{_interval(known['tau_predicted_interval'])}{sampled}"
        )
    if known and known["num_not_counted"]:
        console.print(f"{known['num_not_counted']} more accuracies are of networks trained in other ways, not compared")


def _print_rounds(console: Console, rounds: list[dict[str, Any]]) -> None:
    table = Table("round", "cells", "state", "sampled", "tau (held out)", "best")
    title = _predicted_title(found["best"] for found in rounds if found["best"])
    for column in (title, "multi-adds", "architecture", "table"):
        table.add_column(column)
    for found in rounds:
        best = found["best"]
        tau = found["held_out_tau"]
        table.add_row(
            str(found["round_index"]),
            f"{found['segment'][0]}-{found['segment'][-1]}",
            found["state"].replace("_", " "),
            str(found["num_sampled"]),
            "-" if tau is None else f"{tau:.3f}",
            percent(best and best["accuracy"]),
            predicted(best) if best else "-",
            millions(best["multi_adds"]) if best else "-",
            best["code"] if best else "-",
            f"{found['num_rows']:,} rows" if found["num_rows"] else "-",
        )
    console.print(table)


def _print_final(console: Console, final: dict[str, Any]) -> None:
    foreseen = "" if final.get("predicted_accuracy") is None else f" (predicted: {predicted(final)})"
    console.print(
        f"best: {percent(final['accuracy'])}{foreseen} at {millions(final['multi_adds'])} multi-adds, "
        f"{millions(final['params'])} parameters: {final['code']}  {final['readable']}"
    )


def print_lookup(console: Console, answer: dict[str, Any], title: str | None = None) -> None:
    """Print the architectures that a lookup found, or why there are none."""
    if not answer["items"]:
        console.print(answer["message"], markup=False)
        return
    devices = list(answer["items"][0]["latency_ms"])
    table = Table(
        "rank", _predicted_title(answer["items"]), "sampled", "re-evaluated", "multi-adds", "parameters", title=title
    )
    for column in (*(f"ms on {device}" for device in devices), "code"):
        table.add_column(column)
    for item in answer["items"]:
        table.add_row(
            str(item["rank"]),
            predicted(item),
            percent(item["sampled_accuracy"]),
            percent(item["reevaluated_accuracy"]),
            millions(item["multi_adds"]),
            millions(item["params"]),
            *(milliseconds(item["latency_ms"][device]) for device in devices),
            item["code"],
        )
    console.print(table)
    best = answer["items"][0]
    console.print(f"best: {best['readable']}")
    which = "the whole space" if answer["round_index"] is None else f"round {answer['round_index']}"
    console.print(f"from {answer['num_rows']:,} architectures: search {answer['search_id']}, {which}")
    if not answer["is_exact"]:
        console.print("the best that were found; nothing proves that there is no better one under these limits")


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f" [{bounds[0]:.2f} to {bounds[1]:.2f} with 90 %]"


def print_pairs(console: Console, pairs: list[dict[str, Any]]) -> None:
    """Print arch-accuracy pairs."""
    table = Table("round", "source", "accuracy", "held out", "code")
    for pair in pairs:
        table.add_row(
            str(pair["round_index"]),
            pair["source"],
            percent(pair["accuracy"]),
            "yes" if pair["held_out"] else "",
            pair["code"],
        )
    console.print(table)
