"""A search's progress as bars and as plain lines."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli import progress
from app.cli.console import Notices
from app.cli.progress import Bars, PlainLines, duration


def a_search(state: str = "running", **changes: Any) -> dict[str, Any]:
    stages = {"evaluating_subnetworks": 1.0, "fitting_gcn": 0.5, "retraining": 0.0, "reevaluating": 0.0}
    return {
        "kind": "search",
        "state": state,
        "progress": 0.6,
        "eta_s": 187.2,
        "config": {"num_sampled": 300, "num_reevaluated": 30},
        "training_progress": 1.0,
        "steps": [{"round_index": 0, "detail": {"loss": 0.123456, "epoch": 2, "epochs": 20}}],
        "rounds": [
            {
                "round_index": 0,
                "state": "fitting_gcn",
                "stages": stages,
                "subspace_size": 279936,
                "held_out_tau": None,
                "standalone": None,
                "best": None,
            },
            {
                "round_index": 1,
                "state": "pending",
                "stages": dict.fromkeys(stages, 0.0),
                "subspace_size": None,
                "held_out_tau": None,
                "standalone": None,
                "best": None,
            },
        ],
    } | changes


def test_bars_appear_with_their_round() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=160))
    bars.start()
    bars.show(a_search())
    bars.stop()
    text = out.getvalue()
    assert "training the supernet" in text
    assert "round 0: evaluating 300 sub-networks" in text
    assert "round 0: fitting the GCN to 279,936 architectures" in text
    assert "epoch 3/20, loss 0.1235" in text
    assert "re-evaluating" not in text
    assert "round 1" not in text


def test_a_round_that_trains_architectures_by_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    search = a_search()
    search["rounds"][0] |= {"state": "retraining", "stages": search["rounds"][0]["stages"] | {"retraining": 0.25}}
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=160))
    bars.start()
    bars.show(search)
    search["rounds"][0] |= {"state": "reevaluating", "standalone": {"tau": 0.5, "num_architectures": 16}}
    bars.show(search)
    bars.stop()
    assert "round 0: training architectures by themselves" in out.getvalue()
    assert "tau 0.500 against 16 of them" in out.getvalue()
    search["rounds"][0]["state"] = "retraining"
    PlainLines(Notices()).show(search)
    assert "training architectures by themselves" in capsys.readouterr().err


def test_plain_lines_come_with_changes_and_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = PlainLines(Notices())
    clock = iter([100.0, 101.0, 106.0, 106.5])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    for search in (a_search(), a_search(), a_search(), a_search("succeeded")):
        lines.show(search)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert (
        printed[0]
        == " 60%  round 0: fitting the GCN to 279,936 architectures (epoch 3/20, loss 0.1235), about 3:07 left"
    )
    assert "succeeded" in printed[2]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (187.2, "3:07"), (3600, "1:00:00"), (59.6, "1:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
