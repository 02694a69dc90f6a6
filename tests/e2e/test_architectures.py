"""From a finished search to a network in one's hands: retrained, exported, and computing the same everywhere."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnxruntime
import pyarrow.parquet
import pytest
import torch

from app.embedded.stack import Stack
from tests.e2e.test_whole_search import ended, follow, kill_worker_children, submit

RECIPE = {"epochs": 6, "batch_size": 32}


@pytest.fixture(scope="module")
def search(client: httpx2.Client) -> dict[str, Any]:
    """A finished search on the digits."""
    found = follow(client, submit(client, seed=3)["id"], ended)[-1]
    assert found["state"] == "succeeded", found["error"]
    return found


def path_of(search: dict[str, Any], code: str | None = None) -> str:
    return f"/search/{search['id']}/architectures/{code or search['final']['code']}"


def retrain(client: httpx2.Client, search: dict[str, Any], code: str | None = None, **body: Any) -> dict[str, Any]:
    response = client.post(f"{path_of(search, code)}/retraining", json=RECIPE | body)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


@pytest.fixture(scope="module")
def retrained(client: httpx2.Client, search: dict[str, Any]) -> list[dict[str, Any]]:
    """All that polling saw of the retraining of the search's best architecture."""
    seen = follow(client, retrain(client, search)["id"], ended)
    assert seen[-1]["state"] == "succeeded", seen[-1]["error"]
    return seen


def test_a_retraining_gives_an_accuracy(
    client: httpx2.Client, search: dict[str, Any], retrained: list[dict[str, Any]]
) -> None:
    progress = [job["progress"] for job in retrained]
    assert progress == sorted(progress)
    assert progress[-1] == retrained[-1]["training_progress"] == 1.0
    (known,) = client.get(path_of(search)).raise_for_status().json()["standalone"]
    assert known["job_id"] == retrained[-1]["id"]
    assert known["accuracy"] == retrained[-1]["final"]["accuracy"]
    assert known["accuracy"] > 0.3


def test_a_killed_worker_child_and_a_cancellation_change_nothing(
    stack: Stack, client: httpx2.Client, search: dict[str, Any]
) -> None:
    """Interrupted twice, a retraining ends where an undisturbed one with the same seed does."""
    body = {"epochs": 60, "seed": 5}
    undisturbed = follow(client, retrain(client, search, **body)["id"], ended)[-1]
    job_id = retrain(client, search, **body)["id"]
    follow(client, job_id, lambda job: job["progress"] > 0.1)
    assert kill_worker_children(stack) >= 1
    follow(client, job_id, lambda job: job["progress"] > 0.3)
    client.post(f"/search/{job_id}/cancel").raise_for_status()
    assert follow(client, job_id, ended)[-1]["state"] == "cancelled"
    client.post(f"/search/{job_id}/resume").raise_for_status()
    final = follow(client, job_id, ended)[-1]
    assert final["state"] == "succeeded", final["error"]
    assert final["final"]["accuracy"] == undisturbed["final"]["accuracy"]


def test_fine_tuned_networks_tell_how_far_the_search_agrees_with_the_truth(
    client: httpx2.Client, search: dict[str, Any]
) -> None:
    items = client.get("/lookup", params={"search_id": search["id"], "limit": 4}).raise_for_status().json()["items"]
    jobs = [retrain(client, search, item["code"], from_supernet=True, epochs=1) for item in items]
    for job in jobs:
        assert follow(client, job["id"], ended)[-1]["state"] == "succeeded"
    found = client.get(f"/search/{search['id']}").raise_for_status().json()["standalone"]
    assert (found["num_architectures"], found["num_predicted"], found["from_supernet"]) == (4, 4, True)


def exported(client: httpx2.Client, search: dict[str, Any], **query: str) -> bytes:
    response = client.get(f"{path_of(search)}/export", params=query)
    if response.status_code == 202:
        job = follow(client, response.json()["id"], ended)[-1]
        assert job["state"] == "succeeded", job["error"]
        response = client.get(f"{path_of(search)}/export", params=query)
    assert response.status_code == 200, response.text
    return response.content


@pytest.mark.parametrize("weights", ["supernet", "retrained"])
@pytest.mark.usefixtures("retrained")
def test_the_files_compute_the_same(
    client: httpx2.Client, search: dict[str, Any], tmp_path: Path, weights: str
) -> None:
    files = {kind: exported(client, search, format=kind, weights=weights) for kind in ("onnx", "safetensors", "python")}
    (tmp_path / "model.py").write_bytes(files["python"])
    (tmp_path / "model.safetensors").write_bytes(files["safetensors"])
    spec = importlib.util.spec_from_file_location("exported_model", tmp_path / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network, description = module.load(tmp_path / "model.safetensors")
    images = torch.randn(7, *description["input"]["shape"][1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())
    assert description["code"] == search["final"]["code"]
    if weights == "retrained":
        latest = client.get(path_of(search)).raise_for_status().json()["standalone"][0]
        assert (description["accuracy"], description["retraining"]["seed"]) == (latest["accuracy"], latest["seed"])
    else:
        assert description["accuracy"] == search["final"]["accuracy"], "z is the accuracy of what is handed out"


def test_the_command_line_exports_and_retrains(stack: Stack, search: dict[str, Any], tmp_path: Path) -> None:
    def nasatlas(*arguments: str) -> Any:
        command = [sys.executable, "-c", "from app.cli.main import main; main()", *arguments, "--json"]
        environment = os.environ | {"NASATLAS_URL": stack.url}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    code = search["final"]["code"]
    answer = nasatlas("retrain", search["id"], code, "--epochs", "1", "--batch-size", "64", "--seed", "9")
    assert answer["job"]["state"] == "succeeded"
    assert answer["architecture"]["standalone"][0]["seed"] == 9
    files = nasatlas("export", search["id"], code, "--format", "python", "--output", str(tmp_path / "model.py"))[
        "files"
    ]
    names = [Path(file["path"]).name for file in files]
    assert names == ["model.py", "model.safetensors", "model.json"]
    description = json.loads((tmp_path / "model.json").read_text())
    assert description["code"] == code


def test_tables_and_pairs_as_parquet(client: httpx2.Client, search: dict[str, Any]) -> None:
    def table(path: str) -> Any:
        content = client.get(f"/search/{search['id']}/{path}", params={"format": "parquet"}).raise_for_status().content
        return pyarrow.parquet.read_table(io.BytesIO(content))

    assert [table(f"rounds/{t}/table").num_rows for t in (0, 1)] == [36, 108]
    assert table("pairs").num_rows == 2 * (24 + 8)
