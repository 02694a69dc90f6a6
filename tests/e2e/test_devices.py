"""A device measured by a worker limits lookups, of a search that finished before."""

from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import TINY_SPACE
from tests.e2e.test_whole_search import ended, follow, submit


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_measured_device_limits_lookups(client: httpx2.Client, runtime: str) -> None:
    search = follow(client, submit(client, seed=3)["id"], ended)[-1]
    assert search["state"] == "succeeded", search["error"]
    space = TINY_SPACE
    response = client.post(f"/devices/worker-{runtime}/measurement", json={"search_space": space, "runtime": runtime})
    assert response.status_code == 202, response.text
    job: dict[str, Any] = follow(client, response.json()["id"], ended)[-1]
    assert (job["kind"], job["state"]) == ("measurement", "succeeded"), job["error"]
    (device,) = client.get(f"/devices/worker-{runtime}").raise_for_status().json()["items"]
    assert device["origin"] == "measured"
    assert 0 < device["min_ms"] < device["max_ms"]
    assert device["report"]["runtime"].startswith(runtime)
    limit = (device["min_ms"] + device["max_ms"]) / 2
    query = {"search_id": search["id"], "device": device["name"], "max_latency_ms": limit}
    items = client.get("/lookup", params=query).raise_for_status().json()["items"]
    assert items
    assert all(item["latency_ms"][device["name"]] <= limit for item in items)
