"""Submitting, reading, cancelling and resuming searches through the API, on a real database and broker."""

import datetime as dt
import io
import threading
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from kombu import Connection
from PIL import Image
from sqlalchemy import func

from app.db.models import StepRow
from app.settings import Settings

TINY = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40}


def submitted(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/search", json={**TINY, **changes})
    assert response.status_code == 202, response.text
    search: dict[str, Any] = response.json()
    return search


def test_a_search_is_stored_with_its_whole_configuration(client: TestClient) -> None:
    response = client.post("/search", json=TINY)
    assert response.status_code == 202, response.text
    search = response.json()
    assert response.headers["location"] == f"/search/{search['id']}"
    assert (search["state"], search["phase"], search["progress"], search["eta_s"]) == ("queued", "queued", 0, None)
    assert search["config"]["num_sampled"] == 40
    assert search["config"]["num_classes"] == 10
    assert [r["segment"] for r in search["rounds"]] == [[*range(7)], [*range(7, 13)], [*range(13, 19)]]
    assert {r["state"] for r in search["rounds"]} == {"pending"}
    target, proxy = search["networks"]["target"], search["networks"]["proxy"]
    assert (target["resolution"], target["multi_adds"]) == (224, {"min": 247129856, "max": 557405696})
    assert (proxy["resolution"], proxy["width"], proxy["num_classes"]) == (32, 0.25, 10)
    assert proxy["multi_adds"]["max"] < target["multi_adds"]["min"] / 10
    assert client.get(f"/search/{search['id']}").json() == search


def test_its_first_step_is_ready_and_woken(client: TestClient, factory: Any, api_settings: Settings) -> None:
    with Connection(api_settings.required_broker_url()) as connection:
        connection.default_channel.queue_declare("steps", auto_delete=False)
        connection.default_channel.queue_purge("steps")
        search = submitted(client)
        with factory.engine.connect() as database:
            steps = database.execute(StepRow.__table__.select()).all()
        assert [(str(s.search_id), s.kind, s.state, s.round_index, s.payload) for s in steps] == [
            (search["id"], "train_supernet", "ready", None, {})
        ]
        message = connection.SimpleQueue("steps").get(timeout=5)
        assert message.payload[0] == [steps[0].id]
        message.ack()


def test_a_search_of_ones_own_space(client: TestClient) -> None:
    space = {
        "name": "mine",
        "input_resolution": 32,
        "num_classes": 10,
        "stem": {"out_channels": 16, "stride": 1},
        "cells": [{"out_channels": 16, "choices": [{"kernel_size": 3}, {"kernel_size": 5}]}] * 8,
        "head": {"out_channels": 64},
    }
    search = submitted(client, search_space=space, num_sampled=16, num_reevaluated=6, num_preserved=2)
    assert search["search_space"] == "mine"
    assert [r["segment"] for r in search["rounds"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    broken = {**space, "cells": [{"out_channels": 16, "choises": []}]}
    problem = client.post("/search", json={**TINY, "search_space": broken}).json()
    assert {
        "loc": ["body", "search_space", "cells", 0, "choises"],
        "msg": "there is no field 'choises'; did you mean choices?",
    } in problem["errors"]
    problem = client.post("/search", json={**TINY, "search_space": {**space, "stem": {"out_channels": True}}}).json()
    assert problem["errors"] == [
        {
            "loc": ["body", "search_space", "stem", "out_channels"],
            "msg": "must not be true; write numbers as numbers and texts as texts",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "loc", "says"),
    [
        ({"dataset": "imagenet"}, ["body", "dataset"], "there are digits"),
        ({"dataset": "../etc"}, ["body", "dataset"], "use letters"),
        ({"dataset": "a\0b"}, ["body"], "null"),
        ({"search_space": "darts"}, ["body", "search_space"], "there are fairnas"),
        ({"search_space": 3}, ["body", "search_space"], "name of a search space"),
        ({"preset": "fast"}, ["body", "preset"], "'paper' or 'quick'"),
        ({"num_samples": 3}, ["body", "num_samples"], "did you mean num_sampled"),
        ({"zzzzz": 3}, ["body", "zzzzz"], "there are"),
        ({"seed": -1}, ["body", "seed"], "greater than or equal to 0"),
        ({"gcn_hidden_sizes": [0, 8]}, ["body", "gcn_hidden_sizes", 0], "greater than or equal to 1"),
        ({"learning_rate": "NaN"}, ["body", "learning_rate"], "finite"),
        ({"num_sampled": 5}, ["body"], "fitting needs at least 10"),
        ({"num_sampled": 300_000}, ["body"], "lower num_sampled to at most"),
        ({"segments": [[0, 1], [1, 2]]}, ["body"], "overlap"),
        ({"segments": [[0, 1], [3, 4]]}, ["body"], "miss the cells"),
        ({"initial_architecture": "99"}, ["body"], "19 cells"),
        ({"num_classes": 11}, ["body", "num_classes"], "digits has 10"),
        ({"num_images": 20, "num_classes": 10, "batch_size": 64}, ["body", "batch_size"], "smaller batch_size"),
        ({"batch_size": 5000}, ["body", "batch_size"], "left to train on"),
        ({"num_preserved": 50, "num_reevaluated": 30}, ["body"], "must not exceed"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(
    client: TestClient, changes: dict[str, Any], loc: list[str | int], says: str
) -> None:
    response = client.post("/search", json={**TINY, **changes})
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert loc in [error["loc"] for error in problem["errors"]], problem
    assert says in " ".join(error["msg"] for error in problem["errors"]), problem
    assert problem["detail"]
    assert client.get("/search").json()["items"] == []


def test_all_that_is_wrong_is_said_at_once(client: TestClient) -> None:
    problem = client.post("/search", json={**TINY, "dataset": "nope", "search_space": "nope", "num_sampled": 5}).json()
    assert [error["loc"] for error in problem["errors"]] == [["body", "search_space"], ["body"], ["body", "dataset"]]


def write_many(path: Path) -> None:
    """More images than are decoded before a search is taken, and the last but one of them cut off."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG")
    images = [buffer.getvalue()] * 8300
    images[-2] = images[-2][:-60]
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 4150}), path)


def test_data_sets_that_carry_no_search(
    client: TestClient, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, api_settings: Settings
) -> None:
    one_class, corrupt = tmp_path / "single" / "cats", tmp_path / "corrupt"
    one_class.mkdir(parents=True)
    (one_class / "a.png").write_bytes(b"x")
    for name in ("cats", "dogs"):
        (corrupt / name).mkdir(parents=True)
        for image in range(3):
            (corrupt / name / f"{image}.png").write_bytes(b"not an image")
    write_many(tmp_path / "many.parquet")
    monkeypatch.setattr(client.app.state, "settings", api_settings.model_copy(update={"data_root": tmp_path}))  # type: ignore[attr-defined]
    for dataset, says in (
        ("single", "one class"),
        ("corrupt", "cats/0.png is a corrupt or truncated image (no known format); replace or remove it; 5 more"),
        ("many", "row 8298 of many.parquet is a corrupt or truncated image"),
    ):
        problem = client.post("/search", json={**TINY, "dataset": dataset}).json()
        assert problem["status"] == 422
        assert problem["errors"][0]["loc"] == ["body", "dataset"]
        assert says in problem["errors"][0]["msg"]


class TestIdempotency:
    def test_the_same_body_gives_the_same_search(self, client: TestClient) -> None:
        key = {"Idempotency-Key": "k1"}
        first = client.post("/search", json=TINY, headers=key)
        again = client.post("/search", json=TINY, headers=key)
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["location"] == first.headers["location"]
        assert len(client.get("/search").json()["items"]) == 1

    def test_another_body_is_a_conflict(self, client: TestClient) -> None:
        key = {"Idempotency-Key": "k1"}
        first = client.post("/search", json=TINY, headers=key).json()
        response = client.post("/search", json={**TINY, "seed": 1}, headers=key)
        assert response.status_code == 409
        assert response.json()["search_id"] == first["id"]
        assert "new key" in response.json()["detail"]

    @pytest.mark.parametrize("key", ["", "with space", "x" * 201])
    def test_keys_that_are_none(self, client: TestClient, key: str) -> None:
        assert client.post("/search", json=TINY, headers={"Idempotency-Key": key}).status_code == 422

    def test_many_at_once_make_one_search(self, client: TestClient) -> None:
        answers: list[tuple[int, str]] = []

        def post() -> None:
            response = client.post("/search", json=TINY, headers={"Idempotency-Key": "k"})
            answers.append((response.status_code, response.json()["id"]))

        threads = [threading.Thread(target=post) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in answers) == [200] * 5 + [202]
        assert len({search_id for _, search_id in answers}) == 1


class TestList:
    def test_pages_newest_first(self, client: TestClient, factory: Any) -> None:
        ids = [str(factory.search(num_tables=0, state="queued").id) for _ in range(5)]
        seen, cursor = [], None
        while True:
            page = client.get("/search", params={"size": 2, **({"cursor": cursor} if cursor else {})}).json()
            seen += [search["id"] for search in page["items"]]
            cursor = page["next_page"]
            if cursor is None:
                break
        assert seen == ids[::-1]

    def test_by_state(self, client: TestClient, factory: Any) -> None:
        failed = factory.search(num_tables=0, state="failed")
        factory.search(num_tables=0, state="queued")
        assert [s["id"] for s in client.get("/search?state=failed").json()["items"]] == [str(failed.id)]
        assert client.get("/search?state=lost").status_code == 422

    @pytest.mark.parametrize(
        "cursor", ["x", "AAAA", "PmE6Yg==", "PmR0OjIwMjQ", "PmlbOjE=", "%00", "Pnc=", "é", "PmR0OngNCg=="]
    )
    def test_cursors_that_are_none(self, client: TestClient, factory: Any, cursor: str) -> None:
        search = factory.search(num_tables=0)
        for path in ("/search", f"/search/{search.id}/pairs"):
            response = client.get(path, params={"cursor": cursor})
            assert response.status_code == 422, (path, response.text)
            assert response.json()["errors"][0]["loc"] == ["query", "cursor"]

    @pytest.mark.parametrize("size", [0, 101, -1])
    def test_sizes_that_are_none(self, client: TestClient, size: int) -> None:
        assert client.get("/search", params={"size": size}).status_code == 422


class TestOneSearch:
    def test_an_unknown_one(self, client: TestClient) -> None:
        unknown = uuid.uuid4()
        for method, path in (
            ("GET", ""),
            ("GET", "/rounds/0"),
            ("GET", "/pairs"),
            ("GET", "/architectures/0"),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("POST", "/resume"),
        ):
            response = client.request(method, f"/search/{unknown}{path}")
            assert response.status_code == 404, path
            assert response.headers["content-type"] == "application/problem+json"
            assert "GET /search lists" in response.json()["detail"]
            assert client.request(method, f"/search/latest{path}").status_code == 422

    def test_a_running_one(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="running", num_tables=1)
        started = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=100)
        done = {"state": "done", "started_at": started, "finished_at": started + dt.timedelta(seconds=50)}
        factory.step(search.id, "train_supernet", **done)
        for shard in range(2):
            factory.step(search.id, "evaluate_shard", round_index=0, shard_index=shard, **done)
        factory.step(
            search.id,
            "fit_gcn",
            round_index=0,
            state="leased",
            progress=0.5,
            started_at=started,
            detail={"epoch": 3, "loss": 0.25},
            lease_expires_at=func.now() + dt.timedelta(seconds=30),
        )
        view = client.get(f"/search/{search.id}").json()
        assert (view["phase"], view["training_progress"]) == ("fitting_gcn", 1)
        assert view["progress"] == pytest.approx(0.5 + 0.5 * (0.6 + 0.3 * 0.5))
        assert view["eta_s"] == pytest.approx(100 * (1 - view["progress"]) / view["progress"], rel=0.2)
        assert view["steps"] == [
            {
                "kind": "fit_gcn",
                "round_index": 0,
                "shard_index": 0,
                "progress": 0.5,
                "detail": {"epoch": 3, "loss": 0.25},
            }
        ]
        first = view["rounds"][0]
        assert (first["state"], first["num_sampled"], first["num_reevaluated"]) == ("fitting_gcn", 30, 10)
        assert (first["num_rows"], first["table_digest"]) == (6561, search.tables[0].digest())
        assert client.get(f"/search/{search.id}/rounds/0").json() == first
        assert client.get("/search").json()["items"][0]["progress"] == view["progress"]
        for round_index, status in (("1", 404), ("-1", 404), ("x", 422), (str(10**30), 404)):
            response = client.get(f"/search/{search.id}/rounds/{round_index}")
            assert response.status_code == status

    def test_pairs(self, client: TestClient, factory: Any) -> None:
        search = factory.search()
        path = f"/search/{search.id}/pairs"
        first = client.get(path, params={"size": 25}).json()
        second = client.get(path, params={"size": 25, "cursor": first["next_page"]}).json()
        pairs = first["items"] + second["items"]
        assert (len(pairs), second["next_page"]) == (40, None)
        assert pairs == sorted(pairs, key=lambda p: (p["round_index"], p["source"], p["code"]))
        assert (
            client.get(path, params={"cursor": second["previous_page"], "size": 25}).json()["items"] == first["items"]
        )
        reevaluated = client.get(path, params={"source": "reevaluated"}).json()["items"]
        assert {p["accuracy"] for p in reevaluated} == {0.625}
        assert client.get(path, params={"round_index": 1}).json()["items"] == []

    def test_an_architecture(self, client: TestClient, factory: Any) -> None:
        search = factory.search()
        table = search.tables[0]
        index = int(table.top(1)[0])
        code = table.subspace.codes([index])[0]
        known = client.get(f"/search/{search.id}/architectures/{code}").json()
        assert (known["multi_adds"], known["params"]) == (table.multi_adds[index], table.params[index])
        assert known["proxy_multi_adds"] < known["multi_adds"]
        assert [p["source"] for p in known["pairs"]] == ["reevaluated", "sampled"]
        assert [p["subspace_index"] for p in known["predictions"]] == [index]
        assert (known["is_reevaluated"], known["space_prediction"]) == (True, None)
        for wrong in ("9" * 8, "0", "abc", "²", "0" * 65, "%00"):
            response = client.get(f"/search/{search.id}/architectures/{wrong}")
            assert response.status_code == 422, wrong


class TestLifecycle:
    def test_cancel_before_anything_runs(self, client: TestClient) -> None:
        search = submitted(client)
        for _ in range(2):
            response = client.post(f"/search/{search['id']}/cancel")
            assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert response.json()["finished_at"]

    def test_cancel_while_a_worker_is_at_it(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="running", num_tables=0)
        factory.step(
            search.id, "train_supernet", state="leased", lease_expires_at=func.now() + dt.timedelta(seconds=30)
        )
        for _ in range(2):
            assert client.post(f"/search/{search.id}/cancel").json()["state"] == "cancelling"
        assert client.post(f"/search/{search.id}/resume").json()["state"] == "queued"

    def test_cancel_after_a_workers_death(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="running", num_tables=0)
        factory.step(search.id, "train_supernet", state="leased", lease_expires_at=func.now() - dt.timedelta(seconds=1))
        assert client.post(f"/search/{search.id}/cancel").json()["state"] == "cancelled"

    @pytest.mark.parametrize("state", ["succeeded", "failed"])
    def test_what_is_over_cannot_be_cancelled(self, client: TestClient, factory: Any, state: str) -> None:
        search = factory.search(state=state, num_tables=0)
        response = client.post(f"/search/{search.id}/cancel")
        assert (response.status_code, response.json()["state"]) == (409, state)

    def test_resume_after_a_failure(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="failed", num_tables=0)
        now = dt.datetime.now(dt.UTC)
        factory.change(search.id, error="out of memory", started_at=now, finished_at=now)
        done = factory.step(search.id, "train_supernet", state="done", attempt=1)
        failed = factory.step(
            search.id, "evaluate_shard", round_index=0, state="failed", attempt=5, failures=5, error="out of memory"
        )
        ready = factory.step(search.id, "evaluate_shard", round_index=0, shard_index=1, attempt=2, failures=1)
        resumed = client.post(f"/search/{search.id}/resume").json()
        assert (resumed["state"], resumed["error"], resumed["finished_at"]) == ("running", None, None)
        with factory.engine.connect() as database:
            rows = {row.id: row for row in database.execute(StepRow.__table__.select())}
        assert [(rows[i].state, rows[i].attempt, rows[i].failures) for i in (done, failed, ready)] == [
            ("done", 1, 0),
            ("ready", 5, 0),
            ("ready", 2, 0),
        ]
        assert rows[failed].error is None

    @pytest.mark.parametrize("state", ["queued", "running"])
    def test_what_is_under_way_just_goes_on(self, client: TestClient, factory: Any, state: str) -> None:
        search = factory.search(state=state, num_tables=0)
        assert client.post(f"/search/{search.id}/resume").json()["state"] == state

    def test_what_has_succeeded_cannot_be_resumed(self, client: TestClient, factory: Any) -> None:
        search = factory.search()
        response = client.post(f"/search/{search.id}/resume")
        assert response.status_code == 409
        assert "GET /lookup" in response.json()["detail"]


def test_events_end_with_the_search(client: TestClient, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)
    factory.step(search.id, "train_supernet", state="leased", progress=0.1)
    lines = []
    with client.stream("GET", f"/search/{search.id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event:"):
                lines.append(line)
                if len(lines) == 1:
                    factory.change(search.id, state="failed", error="broken")
    assert lines == ["event: state", "event: milestone", "event: state"]
