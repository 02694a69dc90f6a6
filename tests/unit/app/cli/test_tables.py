"""Answers as tables for people: the documented examples, and what stands where nothing is known."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from app.cli import tables
from app.schemas.examples import ARCHITECTURE, DEVICE, LOOKUP, PAIR, ROUND, SEARCH, SUMMARY

BEST: dict[str, Any] = {
    "code": "12212021",
    "readable": "K3E3",
    "accuracy": 0.8675,
    "multi_adds": 95_640_320,
    "params": 2_081_482,
}


def printed(show: Callable[..., None], *arguments: Any) -> str:
    """What is printed, with every run of blanks as one."""
    out = io.StringIO()
    show(Console(file=out, width=250, soft_wrap=True), *arguments)
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize(
    ("count", "text"), [(9_999_999, "10.00M"), (10_000_000, "10.0M"), (388_100_000, "388.1M"), (346_250, "0.35M")]
)
def test_millions(count: int, text: str) -> None:
    assert tables.millions(count) == text


@pytest.mark.parametrize(("accuracy", "text"), [(None, "-"), (0.0, "0.00%"), (0.86758, "86.76%"), (1.0, "100.00%")])
def test_percent(accuracy: float | None, text: str) -> None:
    assert tables.percent(accuracy) == text


@pytest.mark.parametrize(("latency_ms", "text"), [(0.04567, "0.0457"), (12.34, "12.3"), (123.4, "123")])
def test_milliseconds(latency_ms: float, text: str) -> None:
    assert tables.milliseconds(latency_ms) == text


@pytest.mark.parametrize(
    ("show", "says"),
    [
        (tables.print_searches, "nasatlas search --dataset digits"),
        (tables.print_devices, "nasatlas devices add NAME FILE.csv"),
    ],
)
def test_an_empty_list_says_how_it_is_filled(show: Callable[..., None], says: str) -> None:
    assert says in printed(show, [])


def test_a_list_of_searches() -> None:
    text = printed(tables.print_searches, [SUMMARY, {**SUMMARY, "final": BEST, "progress": 1.0}])
    assert "2026-01-05 10:00 │ cifar10 │ nas-bench-macro │ running │ fitting gcn │ 64% │ - │" in text
    assert "│ 100% │ 86.75% │" in text


def test_nothing_is_said_to_be_done_that_is_not() -> None:
    """A search that was cancelled while it fitted the whole space is at 0.999."""
    cancelled = {**SEARCH, "state": "cancelled", "phase": "fitting_space", "progress": 0.999, "eta_s": None}
    assert "cancelled, fitting space, 99%" in printed(tables.print_search, cancelled)
    assert "│ 99% │" in printed(tables.print_searches, [{**SUMMARY, "progress": 0.999}])


def test_a_search_tells_its_time_left_and_its_error_as_it_is() -> None:
    text = printed(tables.print_search, {**SEARCH, "error": "out of [bold]memory"})
    assert "running, fitting gcn, 64%, about 1:35 left" in text
    assert "error: out of [bold]memory" in text
    assert "proxy: 32 pixels, width 0.25, 10 classes, 1.18M to 9.40M multi-adds" in text
    assert "left" not in printed(tables.print_search, {**SEARCH, "eta_s": None})


def test_a_round_shows_what_it_has_found() -> None:
    assert "│ 0-7 │ fitting gcn │ 300 │ - │ - │ - │ - │ - │ - │" in printed(tables.print_search, SEARCH)
    found = {**ROUND, "state": "done", "held_out_tau": 0.8236, "best": BEST, "num_rows": 6561}
    text = printed(tables.print_search, {**SEARCH, "rounds": [found], "final": BEST})
    assert "│ done │ 300 │ 0.824 │ 86.75% │ - │ 95.6M │ 12212021 │ 6,561 rows │" in text
    assert "best: 86.75% at 95.6M multi-adds, 2.08M parameters: 12212021 K3E3" in text


def test_what_was_predicted_of_the_best_is_beside_it() -> None:
    interval = {"level": 0.9, "lower": 0.8455, "upper": 0.8832}
    best = {**BEST, "predicted_accuracy": 0.8641, "interval": interval}
    found = {**ROUND, "state": "done", "held_out_tau": 0.8236, "best": best}
    text = printed(tables.print_search, {**SEARCH, "rounds": [found], "final": best})
    assert "best ┃ predicted [90%] ┃" in text
    assert "│ 86.75% │ 86.41% [84.5, 88.3] │ 95.6M │" in text
    assert "best: 86.75% (predicted: 86.41% [84.5, 88.3]) at 95.6M multi-adds" in text
    text = printed(tables.print_search, {**SEARCH, "rounds": [{**found, "best": {**best, "interval": None}}]})
    assert "best ┃ predicted ┃" in text
    assert "│ 86.75% │ 86.41% │ 95.6M │" in text


def test_agreement_with_networks_trained_by_themselves() -> None:
    known = {
        "num_predicted": 16,
        "tau_predicted": 0.612,
        "tau_predicted_interval": [0.41, 0.78],
        "tau_sampled": 0.55,
        "num_not_counted": 3,
    }
    text = printed(tables.print_search, {**SEARCH, "standalone": known})
    assert "against 16 networks trained by themselves: 0.612 [0.41 to 0.78 with 90 %]" in text
    assert "(of the sampled accuracy: 0.550)" in text
    assert "3 more accuracies are of networks trained in other ways" in text
    unknown = {**known, "tau_predicted_interval": None, "tau_sampled": None, "num_not_counted": 0}
    text = printed(tables.print_search, {**SEARCH, "standalone": unknown})
    assert "trained by themselves: 0.612" in text
    assert "90 %" not in text
    assert "sampled accuracy" not in text
    assert "other ways" not in text


def test_a_job_is_told_shortly() -> None:
    job = {
        **SEARCH,
        "kind": "retraining",
        "origin_id": "the-search",
        "state": "succeeded",
        "eta_s": None,
        "final": BEST,
    }
    text = printed(tables.print_search, job)
    assert text.startswith(f"retraining {SEARCH['id']} of search the-search succeeded, 64% ")
    assert text.endswith("12212021: 86.75% after training by itself")


def test_an_architecture_tells_how_each_accuracy_is_known() -> None:
    text = printed(tables.print_architecture, ARCHITECTURE)
    assert "95.6M multi-adds, 2.08M parameters" in text
    for accuracy, how in (
        ("86.41%", "predicted in round"),
        ("86.25%", "sampled in round"),
        ("91.25%", "trained from scratch: small recipe, 20 epochs, seed 1, proxy network"),
    ):
        assert f"│ {accuracy} │ {how}" in text
    tuned = {**ARCHITECTURE, "standalone": [{**ARCHITECTURE["standalone"][0], "from_supernet": True}]}
    assert "trained from the supernet's weights" in printed(tables.print_architecture, tuned)


def test_a_lookup_has_a_column_per_device() -> None:
    text = printed(tables.print_lookup, LOOKUP)
    assert "│ multi-adds │ parameters │ ms on pixel │ code │" in text.replace("┃", "│")
    assert "┃ predicted [90%] ┃" in text
    assert "│ 1 │ 86.41% [84.5, 88.3] │ 86.25% │ 86.75% │ 95.6M │ 2.08M │ 3.94 │ 12212021 │" in text
    assert "from 6,561 architectures" in text


def test_a_lookup_of_the_whole_space_says_so() -> None:
    assert "the whole space" in printed(tables.print_lookup, {**LOOKUP, "round_index": None, "num_rows": 6**19})


def test_an_answer_that_is_not_proven_says_so() -> None:
    assert "nothing proves" not in printed(tables.print_lookup, LOOKUP)
    assert "nothing proves" in printed(tables.print_lookup, {**LOOKUP, "is_exact": False})


def test_a_lookup_without_an_answer_says_why() -> None:
    message = "no architecture meets max_madds=1 [and] the smallest has 17.1"
    assert printed(tables.print_lookup, {**LOOKUP, "items": [], "message": message}) == message


def test_a_device_of_other_widths() -> None:
    """Cells may have different numbers of choices: the table is as wide as the widest."""
    device = {**DEVICE, "cells_ms": [[0.05, 0.31], [0.11, 0.22, 0.33]]}
    text = printed(tables.print_latencies, device)
    assert "pixel, nas-bench-macro: stem and head 0.41 ms" in text
    assert "│ 0 │ 0.05 │ 0.31 │ │" in text
    assert "│ 1 │ 0.11 │ 0.22 │ 0.33 │" in text


def test_a_measured_device_shows_the_error_of_its_sum() -> None:
    measured = {**DEVICE, "origin": "measured", "report": {"mean_relative_error": 0.0312}}
    text = printed(tables.print_devices, [DEVICE, measured])
    assert "│ uploaded │ 0.81 ms │ 5.85 ms │ - │ 2026-01-05 09:00 │" in text
    assert "│ measured │ 0.81 ms │ 5.85 ms │ 3.1% │" in text


def test_held_out_pairs_are_marked() -> None:
    text = printed(tables.print_pairs, [PAIR, {**PAIR, "held_out": True}])
    assert "│ sampled │ 86.25% │ │ 12212021 │" in text
    assert "│ sampled │ 86.25% │ yes │ 12212021 │" in text
