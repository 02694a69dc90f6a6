"""``python -m worker.latency_bundle``: a preset's name or a space in, an archive out; or one line that says why not."""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.domain.search_space import Cell, Choice, Head, SearchSpace, Stem
from worker import latency_bundle
from worker.nas.latency_models import bundle

SPACE = SearchSpace(
    name="two-choices",
    input_resolution=8,
    num_classes=2,
    stem=Stem(out_channels=8),
    cells=(Cell(out_channels=8, choices=(Choice(expansion=1), Choice(kernel_size=5, expansion=1))),),
    head=Head(out_channels=8),
)


def run(monkeypatch: pytest.MonkeyPatch, given: Any, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["latency_bundle", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given)))
    latency_bundle.main()


def test_a_space_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "bundle.zip"
    run(monkeypatch, SPACE.model_dump(mode="json"), str(output))
    with zipfile.ZipFile(output) as written, zipfile.ZipFile(io.BytesIO(bundle(SPACE))) as expected:
        assert sorted(written.namelist()) == sorted(expected.namelist())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("mobilenet", "there is no .*mobilenet.*nas-bench-macro"),
        ({"name": "x"}, "input_resolution"),
    ],
)
def test_a_space_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: Any, says: str) -> None:
    with pytest.raises(SystemExit, match=f"(?s){says}"):
        run(monkeypatch, given, str(tmp_path / "bundle.zip"))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="No such file or directory"):
        run(monkeypatch, SPACE.model_dump(mode="json"), str(tmp_path / "nowhere" / "bundle.zip"))


@pytest.mark.parametrize("arguments", [(), ("a.zip", "b.zip")])
def test_how_it_is_used(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match=r"usage: python -m worker\.latency_bundle OUTPUT < SPACE\.json"):
        run(monkeypatch, "fairnas", *arguments)
