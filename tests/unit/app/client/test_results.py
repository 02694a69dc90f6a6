"""Answers that are tables, and their data frames."""

import builtins
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

from app.client import MissingPandasError
from app.client.results import Table
from app.schemas.examples import LOOKUP, PAIR, PARETO
from tests.unit.app.client.answers import ID, always, answering


class TestFrames:
    def test_of_a_lookup(self) -> None:
        with always(200, LOOKUP) as atlas:
            found = atlas.lookup()
        frame = found.to_dataframe()
        assert list(frame["code"]) == [item.code for item in found.items]
        assert frame["latency_ms_pixel"][0] == found.items[0].latency_ms["pixel"]
        assert "latency_ms" not in frame
        assert frame["interval_lower"][0] < frame["predicted_accuracy"][0] < frame["interval_upper"][0]

    def test_of_an_empty_lookup(self) -> None:
        with always(200, {**LOOKUP, "items": [], "message": "none"}) as atlas:
            assert list(atlas.lookup().to_dataframe().columns)[:2] == ["rank", "code"]

    def test_of_a_front(self) -> None:
        with always(200, PARETO) as atlas:
            assert len(atlas.pareto().to_dataframe()) == len(PARETO["items"])

    def test_of_pairs_of_several_pages(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            is_last = request.url.params.get("cursor") == "next"
            page = {"items": [PAIR] * (1 if is_last else 100), "next_page": None if is_last else "next"}
            return httpx2.Response(200, json=page)

        with answering(answer) as atlas:
            pairs = atlas.pairs(ID)
        assert (len(pairs), len(pairs[:3]), pairs[0].code) == (101, 3, PAIR["code"])
        frame = pairs.to_dataframe()
        assert list(frame.columns) == ["round_index", "source", "code", "readable", "accuracy", "held_out"]
        assert len(frame) == 101

    def test_without_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_import = builtins.__import__

        def no_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "pandas":
                raise ImportError(name)
            return real_import(name, *args, **kwargs)

        with always(200, LOOKUP) as atlas:
            found = atlas.lookup()
        monkeypatch.setattr(builtins, "__import__", no_pandas)
        with pytest.raises(MissingPandasError, match=r"nasatlas\[notebook\]"):
            found.to_dataframe()


class TestTable:
    def test_is_the_parquet_file(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"code": ["00", "01"], "predicted_accuracy": [0.25, 0.5]})
        table = Table(frame.to_parquet(engine="pyarrow"))
        assert table.to_dataframe().equals(frame)
        table.save(tmp_path / "table.parquet")
        assert (tmp_path / "table.parquet").read_bytes() == table.parquet

    def test_does_not_print_its_bytes(self) -> None:
        assert repr(Table(b"x" * 100)) == "Table()"
