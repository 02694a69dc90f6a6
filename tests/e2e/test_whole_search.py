"""Searches from the API through broker and worker to the tables, every part in a process of its own."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from sqlalchemy import create_engine, text

from app.client import NasAtlas
from app.domain.lookup_table import Limits, LookupTable
from app.domain.search_space import SearchSpace
from app.domain.subspace import Subspace
from app.embedded.stack import Stack
from app.settings import get_settings
from tests.e2e.conftest import TINY_SEARCH

TIMEOUT_S = 240.0


def submit(client: httpx2.Client, **changes: Any) -> dict[str, Any]:
    response = client.post("/search", json=TINY_SEARCH | changes)
    assert response.status_code == 202, response.text
    search: dict[str, Any] = response.json()
    return search


def follow(client: httpx2.Client, search_id: str, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Poll a search until a condition holds, and return all that was seen."""
    seen: list[dict[str, Any]] = []
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        seen.append(client.get(f"/search/{search_id}").raise_for_status().json())
        if until(seen[-1]):
            return seen
        time.sleep(0.1)
    pytest.fail(f"the search is still {seen[-1]}")


def ended(search: dict[str, Any]) -> bool:
    return search["state"] in ("succeeded", "failed", "cancelled")


def digests(search: dict[str, Any]) -> list[str]:
    return [one["table_digest"] for one in search["rounds"]]


@pytest.fixture(scope="module")
def undisturbed(client: httpx2.Client) -> list[dict[str, Any]]:
    """All that polling saw of one search that nothing disturbs."""
    seen = follow(client, submit(client, seed=3)["id"], ended)
    assert seen[-1]["state"] == "succeeded", seen[-1]["error"]
    return seen


def stored_table(stack: Stack, search_id: str, round_index: int) -> LookupTable:
    """Read a round's table back from the database, row by row."""
    engine = create_engine(stack.running.database_url)
    with engine.connect() as connection:
        space = connection.execute(
            text("select search_space from searches where id = :id"), {"id": search_id}
        ).scalar_one()
        subspace = connection.execute(
            text("select subspace from rounds where search_id = :id and round_index = :t"),
            {"id": search_id, "t": round_index},
        ).scalar_one()
        rows = connection.execute(
            text(
                "select predicted_accuracy, multi_adds, params from lookup_rows r "
                "join lookup_tables t on t.id = r.table_id "
                "where search_id = :id and round_index = :t order by subspace_index"
            ),
            {"id": search_id, "t": round_index},
        ).all()
    engine.dispose()
    predicted, multi_adds, params = map(np.array, zip(*rows, strict=True))
    return LookupTable(
        Subspace.from_dict(SearchSpace.model_validate(space), subspace),
        predicted.astype(np.float32),
        multi_adds.astype(np.int64),
        params.astype(np.int64),
    )


def test_runs_to_the_end_with_monotone_progress(undisturbed: list[dict[str, Any]]) -> None:
    progress = [search["progress"] for search in undisturbed]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    final = undisturbed[-1]
    assert final["phase"] == "done"
    assert [one["num_rows"] for one in final["rounds"]] == [36, 108]
    assert [one["num_sampled"] for one in final["rounds"]] == [24, 24]
    assert final["final"] == final["rounds"][-1]["best"]
    assert len(final["rounds"][0]["preserved"]) == 3


def test_pairs_hold_every_sampled_and_reevaluated_architecture(
    client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    search_id = undisturbed[-1]["id"]
    pairs: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = (
            client.get(f"/search/{search_id}/pairs", params={"cursor": cursor} if cursor else {})
            .raise_for_status()
            .json()
        )
        pairs += page["items"]
        cursor = page.get("next_page")
        if not cursor:
            break
    keys = {(pair["round_index"], pair["source"], pair["code"]) for pair in pairs}
    assert len(keys) == len(pairs) == 2 * (24 + 8)
    assert sum(pair["held_out"] for pair in pairs) == 2 * 2
    assert all(0 <= pair["accuracy"] <= 1 for pair in pairs)


def test_lookup_equals_a_scan_of_the_stored_table(
    stack: Stack, client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    search = undisturbed[-1]
    table = stored_table(stack, search["id"], 1)
    assert table.digest() == search["rounds"][1]["table_digest"]
    for multi_adds in np.quantile(table.multi_adds, [0.0, 0.1, 0.5, 0.9, 1.0]).astype(int).tolist():
        answer = (
            client.get("/lookup", params={"search_id": search["id"], "max_madds": multi_adds / 1e6, "limit": 20})
            .raise_for_status()
            .json()
        )
        expected = table.subspace.codes(table.top(20, Limits(max_multi_adds=multi_adds)))
        assert [item["code"] for item in answer["items"]] == expected
        assert all(item["multi_adds"] <= multi_adds for item in answer["items"])
        assert all(item["interval"]["lower"] <= item["interval"]["upper"] for item in answer["items"])
    assert (answer["quality"]["predictor"], answer["quality"]["num_held_out"]) == ("auto", 2)
    assert answer["quality"]["num_in_band"] == 2, "all of them, under the largest limit"
    assert answer["quality"]["label_noise"] is not None


def test_the_whole_space_answers_every_limit_that_an_architecture_meets(
    client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    asked = {"search_id": undisturbed[-1]["id"], "scope": "space", "limit": 5}
    every = client.get("/lookup", params=asked).raise_for_status().json()
    assert every["num_rows"] == 6**4
    least, most = every["feasible"]["multi_adds"]["min"], every["feasible"]["multi_adds"]["max"]
    for limit in (least, least + 1, (least + most) // 2, most):
        items = client.get("/lookup", params=asked | {"max_madds": limit / 1e6}).raise_for_status().json()["items"]
        assert items
        assert all(item["multi_adds"] <= limit for item in items)


def test_the_same_seed_gives_the_same_table_bytes_and_another_seed_others(
    client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    again = follow(client, submit(client, seed=3)["id"], ended)[-1]
    other = follow(client, submit(client, seed=4)["id"], ended)[-1]
    assert digests(again) == digests(undisturbed[-1])
    assert digests(other) != digests(undisturbed[-1])


def kill_worker_children(stack: Stack) -> int:
    """SIGKILL the children of this stack's worker, and return how many there were."""
    marker = f"NASATLAS_STATE_DIR={stack.state_dir.absolute()}"
    killed = 0
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        # not billiard's semaphore tracker: without it the main process ends too, and only a supervisor brings it back
        # nor the API's processes
        if "from billiard.spawn import spawn_main" not in command:
            continue
        try:
            if marker in {f"{name}={value}" for name, value in process.environ().items()}:
                process.send_signal(signal.SIGKILL)
                killed += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # gone, or another user's
            continue
    return killed


def test_a_killed_worker_child_changes_nothing_in_the_result(
    stack: Stack, client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    search_id = submit(client, seed=3)["id"]
    follow(client, search_id, lambda search: search["progress"] > 0.05)
    assert kill_worker_children(stack) >= 1
    final = follow(client, search_id, ended)[-1]
    assert final["state"] == "succeeded", final["error"]
    assert digests(final) == digests(undisturbed[-1])


def test_cancelled_keeps_its_pairs_and_resumed_ends_with_the_same_table(
    client: httpx2.Client, undisturbed: list[dict[str, Any]]
) -> None:
    search_id = submit(client, seed=3)["id"]
    follow(client, search_id, lambda search: search["rounds"][0]["num_sampled"] > 0)
    client.post(f"/search/{search_id}/cancel").raise_for_status()
    cancelled = follow(client, search_id, ended)[-1]
    assert cancelled["state"] == "cancelled"
    assert cancelled["rounds"][0]["num_sampled"] > 0
    client.post(f"/search/{search_id}/resume").raise_for_status()
    final = follow(client, search_id, ended)[-1]
    assert final["state"] == "succeeded", final["error"]
    assert digests(final) == digests(undisturbed[-1])


def test_a_failing_step_names_its_reason_keeps_the_pairs_and_resume_tries_again(client: httpx2.Client) -> None:
    """At this rate the GCN's units die; the fit is refused, and what was evaluated before it stays."""
    search_id = submit(client, predictor="paper", gcn_learning_rate=100.0)["id"]
    for _ in range(2):
        failed = follow(client, search_id, ended)[-1]
        assert failed["state"] == "failed"
        assert failed["error"].startswith("fit_gcn of round 0: ")
        assert "gcn_learning_rate" in failed["error"]
        assert failed["rounds"][0]["num_sampled"] == 24
        assert client.get("/lookup", params={"search_id": search_id}).status_code == 409
        client.post(f"/search/{search_id}/resume").raise_for_status()


def test_the_python_of_the_scripting_guide_runs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there, but for a smaller search; the other example is of a receiver of webhooks."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "scripting.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S) if "NasAtlas()" in code]
    monkeypatch.setenv("NASATLAS_URL", stack.url)
    get_settings.cache_clear()
    submit_as_given = NasAtlas.submit
    tiny = {name: value for name, value in TINY_SEARCH.items() if name not in ("dataset", "search_space")}

    def submit_tiny(atlas: NasAtlas, dataset: str, search_space: Any, **options: Any) -> Any:
        assert search_space == "nas-bench-macro"
        return submit_as_given(atlas, dataset, TINY_SEARCH["search_space"], **tiny, **options)

    monkeypatch.setattr(NasAtlas, "submit", submit_tiny)
    try:
        exec(compile(example, "scripting.md", "exec"), {})
    finally:
        get_settings.cache_clear()
    said = capsys.readouterr().out
    assert "predicted_accuracy" in said
    assert int(said.split()[-1]) >= 1
