"""A search's progress for people: a bar for the training and for every part of every round, or plain lines."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.cli.console import Notices
from app.domain.whole_percent import whole_percent

PLAIN_INTERVAL_S = 5.0
_JOBS = {"retraining": "training the network", "export": "exporting the network", "measurement": "measuring"}
_STAGES = ("evaluating_subnetworks", "fitting_gcn", "retraining", "reevaluating")


class Display(Protocol):
    """Shows a search, as ``GET /search/{id}`` gives it."""

    def show(self, search: dict[str, Any]) -> None:
        """Show where it stands now."""


@contextlib.contextmanager
def display(notices: Notices) -> Iterator[Display]:
    """Return bars on a terminal, and plain lines elsewhere."""
    if not notices.is_terminal:
        yield PlainLines(notices)
        return
    bars = Bars(notices.console)
    bars.start()
    try:
        yield bars
    finally:
        # a closed terminal must not keep the rest from ending in order
        with contextlib.suppress(OSError):
            bars.stop()


class Bars:
    """Progress bars; those of a round appear when it begins."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("[progress.percentage]{task.fields[percent]:>3}%"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/dim]"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def start(self) -> None:
        """Begin to draw."""
        self._progress.start()

    def stop(self) -> None:
        """Draw a last time."""
        self._progress.stop()

    def show(self, search: dict[str, Any]) -> None:
        """Move the bars."""
        if search["kind"] != "search":
            self._move("job", _JOBS[search["kind"]], search["progress"], _detail(search, None))
            return
        self._move("training", "training the supernet", search["training_progress"], _detail(search, None))
        for current in search["rounds"]:
            if current["state"] != "pending":
                self._show_round(search, current)

    def _show_round(self, search: dict[str, Any], current: dict[str, Any]) -> None:
        round_index = current["round_index"]
        for stage in _STAGES:
            key, fraction, is_at_it = f"{round_index} {stage}", current["stages"][stage], current["state"] == stage
            if is_at_it or fraction:
                description = f"round {round_index}: {_words(stage, current, search)}"
                detail = _detail(search, round_index) if is_at_it else _result(stage, current)
                self._move(key, description, fraction, detail)

    def _move(self, key: str, description: str, fraction: float, detail: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(description, total=1.0, percent=0, detail="")
        self._progress.update(
            self._tasks[key],
            description=description,
            completed=fraction,
            percent=whole_percent(fraction),
            detail=detail,
        )


class PlainLines:
    """A line whenever the phase changes, and every few seconds in between."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._last: tuple[str, float] = ("", 0.0)

    def show(self, search: dict[str, Any]) -> None:
        """Print a line if it is time."""
        doing, now = _doing(search), time.monotonic()
        if doing == self._last[0] and now - self._last[1] < PLAIN_INTERVAL_S:
            return
        self._last = (doing, now)
        eta = "" if search["eta_s"] is None else f", about {duration(search['eta_s'])} left"
        detail = _detail(search, None, any_round=True)
        self._notices.say(f"{whole_percent(search['progress']):3}%  {doing}{f' ({detail})' if detail else ''}{eta}")


def duration(seconds: float) -> str:
    """Return a time for people, e.g. ``3:07``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _doing(search: dict[str, Any]) -> str:
    if search["state"] != "running":
        return str(search["state"])
    if search["kind"] != "search":
        return _JOBS[search["kind"]]
    current = next((r for r in search["rounds"] if r["state"] not in ("pending", "done")), None)
    if current is None:
        return "training the supernet"
    return f"round {current['round_index']}: {_words(current['state'], current, search)}"


def _words(stage: str, current: dict[str, Any], search: dict[str, Any]) -> str:
    config = search["config"]
    size = current["subspace_size"]
    return {
        "evaluating_subnetworks": f"evaluating {config['num_sampled']} sub-networks",
        "fitting_gcn": "fitting the GCN" + (f" to {size:,} architectures" if size else ""),
        "retraining": "training architectures by themselves",
        "fitting_space": "fitting the whole space",
        "reevaluating": f"re-evaluating the top {config['num_reevaluated']}",
    }[stage]


def _result(stage: str, current: dict[str, Any]) -> str:
    if stage == "fitting_gcn" and current["held_out_tau"] is not None:
        return f"tau {current['held_out_tau']:.3f} on held-out pairs"
    if stage == "retraining" and (known := current["standalone"]) is not None and known["tau"] is not None:
        return f"tau {known['tau']:.3f} against {known['num_architectures']} of them"
    if stage == "reevaluating" and current["best"] is not None:
        return f"best {current['best']['accuracy']:.1%}"
    return ""


def _detail(search: dict[str, Any], round_index: int | None, *, any_round: bool = False) -> str:
    """What the running steps report of themselves, e.g. ``epoch 3/20, loss 1.21``."""
    for step in search["steps"]:
        if (any_round or step["round_index"] == round_index) and step["detail"]:
            return ", ".join(_figures(step["detail"]))
    return ""


def _figures(detail: dict[str, Any]) -> Iterator[str]:
    """The reported figures; a count comes first, with its total."""
    counts = [name for name in detail if f"{name}s" in detail]
    for name in counts:
        yield f"{name} {min(detail[name] + 1, detail[f'{name}s'])}/{detail[f'{name}s']}"
    for name, value in detail.items():
        if name not in counts and name.removesuffix("s") not in counts:
            yield f"{name.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
