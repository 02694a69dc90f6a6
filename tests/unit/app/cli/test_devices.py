"""The files that devices are registered from."""

import json
from pathlib import Path

import pytest

from app.cli.devices import _read
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
