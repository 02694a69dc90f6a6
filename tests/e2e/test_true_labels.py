"""A search that spends a part of its budget on the truth, with every part in a process of its own."""

from typing import Any

import httpx2
import pytest

from app.embedded.stack import Stack
from tests.e2e.test_whole_search import digests, ended, follow, kill_worker_children, submit

LABELS = {"num_standalone": 7, "standalone_epochs": 2, "seed": 3, "gcn_epochs": 10}


def searched(client: httpx2.Client, **changes: Any) -> list[dict[str, Any]]:
    seen = follow(client, submit(client, **LABELS | changes)["id"], ended)
    assert seen[-1]["state"] == "succeeded", seen[-1]["error"]
    return seen


@pytest.fixture(scope="module")
def undisturbed(client: httpx2.Client) -> list[dict[str, Any]]:
    """All that polling saw of one search that nothing disturbs."""
    return searched(client)


def labels(client: httpx2.Client, search: dict[str, Any]) -> dict[str, float]:
    """Stand-alone accuracies of the architectures that the rounds trained."""
    codes = [code for one in search["rounds"] for code in one["fit_report"]["standalone"]["observed"]]
    found = {}
    for code in codes:
        (known,) = client.get(f"/search/{search['id']}/architectures/{code}").raise_for_status().json()["standalone"]
        assert (known["job_id"], known["epochs"]) == (search["id"], 2)
        found[code] = known["accuracy"]
    return found


def test_labels_are_trained_shown_and_counted(client: httpx2.Client, undisturbed: list[dict[str, Any]]) -> None:
    progress = [search["progress"] for search in undisturbed]
    assert progress == sorted(progress)
    assert "retraining" in {search["phase"] for search in undisturbed}
    final = undisturbed[-1]
    assert len(labels(client, final)) == 7
    assert [one["fit_report"]["standalone"]["num_labels"] for one in final["rounds"]] == [4, 7]
    assert [one["standalone"]["num_architectures"] for one in final["rounds"]] == [4, 3]
    assert final["standalone"]["num_architectures"] == 7
    assert [one["stages"]["retraining"] for one in final["rounds"]] == [1.0, 1.0]
    for round_index, one in enumerate(final["rounds"]):
        query = {"search_id": final["id"], "round_index": round_index}
        answer = client.get("/lookup", params=query).raise_for_status().json()
        assert answer["items"][0]["interval"]["level"] == 0.9, "too few are held out, so fitted pairs help"
        quality = answer["quality"]
        of_labels = one["fit_report"]["standalone"]
        assert quality["standalone_tau"] == of_labels["tau"], one["fit_report"]
        assert quality["standalone_tau_interval"] == of_labels["tau_interval"]
    assert any(one["fit_report"]["standalone"]["tau"] is not None for one in final["rounds"])


def test_a_killed_worker_child_changes_nothing_in_the_result(
    stack: Stack, client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    search_id = submit(client, **LABELS)["id"]
    follow(client, search_id, lambda search: search["phase"] == "retraining")
    assert kill_worker_children(stack) >= 1
    final = follow(client, search_id, ended)[-1]
    assert final["state"] == "succeeded", final["error"]
    assert digests(final) == digests(undisturbed[-1])
    assert labels(client, final) == labels(client, undisturbed[-1])
    assert final["final"] == undisturbed[-1]["final"]


@pytest.mark.slow
def test_labels_can_begin_with_the_supernets_weights(client: httpx2.Client, undisturbed: list[dict[str, Any]]) -> None:
    tuned = searched(client, standalone_start="supernet")[-1]
    assert digests(tuned) != digests(undisturbed[-1])
    code = next(iter(labels(client, tuned)))
    path = f"/search/{tuned['id']}/architectures/{code}"
    assert client.get(path).json()["standalone"][0]["from_supernet"] is True
    job = client.get(f"{path}/export", params={"format": "safetensors", "weights": "retrained"}).json()
    assert follow(client, job["id"], ended)[-1]["state"] == "succeeded"
    assert client.get(f"{path}/export", params={"format": "safetensors", "weights": "retrained"}).status_code == 200
