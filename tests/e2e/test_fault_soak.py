"""The short form of ``benchmarks.fault_soak``: every kind of fault strikes tiny searches, and nothing is lost."""

import pytest

from benchmarks._faults import FAULTS
from benchmarks.fault_soak import FULL_ARTIFACTS, soak
from tests.e2e.conftest import TINY_SEARCH


def test_every_fault_once_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DATA_ROOT", "URL"):
        monkeypatch.delenv(f"NASATLAS_{name}", raising=False)
    # long enough that faults find work to strike at
    figures = soak(TINY_SEARCH | {"epochs": 40}, num_searches=1, num_faults=len(FAULTS) - 1, seed=0)
    assert set(figures["by_kind"]) | {FULL_ARTIFACTS} == set(FAULTS)
    told = {name: figures[name] for name in ("lost", "different", "duplicates", "stale", "orphans")}
    assert told == dict.fromkeys(told, 0), figures
    assert figures["fenced"] > 0, "a worker that was stopped beyond its lease found its step in other hands"
    assert figures["repeated_claims"] > 0
