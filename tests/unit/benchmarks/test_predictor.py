"""Parts of a long run are added up to the figures of the whole."""

import json
from pathlib import Path

import pytest

from benchmarks.predictor import CHOSEN, PREDICTORS, merged


def line(space: str, num_sampled: int, seed: int, tau: dict[str, float], coverage: float) -> str:
    kinds = {f"{kind}_{name}": 0.5 for kind in ("tau_top", "regret_points", "seconds") for name in PREDICTORS}
    figures = kinds | {f"tau_{name}": value for name, value in tau.items()}
    figures |= {f"coverage_{name}": coverage for name in CHOSEN}
    return f"{space} n={num_sampled} sigma=0.5 seed {seed}: {json.dumps(figures)}"


def test_margins_are_over_the_better_of_the_means_of_all_seeds(tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    one = {"ridge": 0.8, "paper": 0.6, "auto": 0.8, "inherited": 0.7}
    other = {"ridge": 0.6, "paper": 0.7, "auto": 0.8, "inherited": 0.7}
    first.write_text("\n".join([line("macro", 100, 0, one, 0.8), "a line of another kind"]))
    lines = [line("macro", 100, 1, other, 1.0), line("macro", 300, 1, other, 0.9), line("synthetic", 300, 1, one, 0.9)]
    second.write_text("\n".join(lines))
    figures = merged([first, second])
    assert figures["seeds"] == [0, 1]
    assert figures["margins"] == {"macro n=100 sigma=0.5": 0.1, "macro n=300 sigma=0.5": 0.1}
    assert figures["inherited_worst_margin"] == pytest.approx(0.0)
    assert figures["coverage_min"] == figures["coverage_max"] == pytest.approx(0.9)
    assert figures["synthetic_worst_margin"] == pytest.approx(0.0)
    assert figures["coverage_90"] == pytest.approx(0.9)
