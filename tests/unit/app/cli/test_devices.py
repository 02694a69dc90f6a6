"""The files that devices are registered from."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.devices import _read, _shown
from app.cli.errors import USAGE, CommandError


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    csv, latencies = tmp_path / "pixel.csv", tmp_path / "pixel.json"
    csv.write_text("cell,choice,latency_ms\n", encoding="utf-8-sig")
    latencies.write_text(json.dumps({"base_ms": 1.0}), encoding="utf-8-sig")
    assert _read(csv) == {"csv": "cell,choice,latency_ms\n"}
    assert _read(latencies) == {"base_ms": 1.0}


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pixel.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="cannot be read") as caught:
        _read(file)
    assert caught.value.exit_code == USAGE


MINE = {"search_space": "fairnas", "base_ms": 1.0, "cells_ms": [[1.0]], "report": None}
OTHER = {**MINE, "search_space": "other", "base_ms": 2.0}


class TestWhatShowHasTold:
    @staticmethod
    def told(*registered: dict[str, Any]) -> dict[str, Any]:
        return {"items": [{"name": "pixel", "min_ms": 2.0, "is_shared": True, **each} for each in registered]}

    def test_what_registers_is_taken(self) -> None:
        assert _shown(self.told(MINE), None) == MINE
        assert _shown(self.told(MINE), "own_space.json") == MINE
        assert _shown({"base_ms": 1.0}, None) == {"base_ms": 1.0}

    def test_of_several_spaces_one_is_named(self) -> None:
        both = self.told(MINE, OTHER, {**MINE, "base_ms": 3.0})
        assert _shown(both, "other") == OTHER
        assert _shown(both, "fairnas") == MINE
        for search_space in (None, "nas-bench-macro"):
            with pytest.raises(CommandError, match="for fairnas, other; name one of these with --search-space"):
                _shown(both, search_space)

    @pytest.mark.parametrize("items", [None, 5, [1], [{"search_space": []}], [{}]])
    def test_other_items_are_refused(self, items: object) -> None:
        with pytest.raises(CommandError, match="the items are not those of"):
            _shown({"items": items}, None)

    def test_none_are_refused(self) -> None:
        with pytest.raises(CommandError, match="latencies for none"):
            _shown({"items": []}, None)
