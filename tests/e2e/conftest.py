"""A whole service, each part a process of its own, for the tests that drive it from outside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.embedded.stack import Stack

TINY_SPACE: dict[str, Any] = {
    "name": "tiny",
    "input_resolution": 32,
    "num_classes": 10,
    "stem": {"out_channels": 8, "stride": 2},
    "cells": [
        {
            "out_channels": channels,
            "stride": stride,
            "choices": [{"kernel_size": k, "expansion": e} for e in (1, 2) for k in (3, 5, 7)],
        }
        for channels, stride in ((8, 1), (16, 2), (16, 1), (16, 1))
    ],
    "head": {"out_channels": 32},
    "default_segments": [[0, 1], [2, 3]],
}

TINY_SEARCH: dict[str, Any] = {
    "dataset": "digits",
    "search_space": TINY_SPACE,
    "num_images": 400,
    "proxy_resolution": 8,
    "proxy_width": 1.0,
    "epochs": 3,
    "batch_size": 32,
    "num_sampled": 24,
    "num_calibration_images": 64,
    "gcn_hidden_sizes": [16, 16],
    "gcn_epochs": 40,
    "num_reevaluated": 8,
    "num_preserved": 3,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An embedded stack with short leases, so that a killed worker is noticed within seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LEASE_S": "4", "HEARTBEAT_S": "0.3", "REAP_S": "1", "SHARD_SIZE": "10"}.items():
            patch.setenv(f"NASATLAS_{name}", value)
        for name in ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DATA_ROOT", "URL"):
            patch.delenv(f"NASATLAS_{name}", raising=False)
        state_dir: Path = tmp_path_factory.mktemp("e2e") / "state"
        with Stack(state_dir) as running:
            yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stack.url, timeout=30.0) as http:
        yield http
