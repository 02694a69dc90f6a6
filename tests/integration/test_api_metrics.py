"""What Prometheus is told: the work from the database, and the requests of all API processes together."""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from app.db import operations
from app.db.engine import get_engine, transaction
from app.db.models import RoundRow
from app.settings import Settings

NOW = dt.datetime.now(dt.UTC)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """All samples by name and the values of their labels, sorted by the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(client: TestClient) -> dict[tuple[str, ...], float]:
    response = client.get("/metrics")
    assert response.status_code == 200, response.text
    return samples(response.text)


def test_without_any_work(client: TestClient) -> None:
    found = scraped(client)
    assert found["nasatlas_queue_depth",] == found["nasatlas_queue_oldest_seconds",] == 0
    assert found["nasatlas_lease_expiries_total", "train_supernet"] == 0
    assert found["nasatlas_evaluations_total", "evaluate_shard"] == 0
    assert ("nasatlas_training_images_per_second",) not in found
    assert ("nasatlas_evaluations_per_second",) not in found
    assert not any(name[0] == "nasatlas_held_out_tau" for name in found)


def test_the_queue_is_what_a_worker_could_take_now(client: TestClient, factory: Any) -> None:
    running, over = factory.search(state="running", num_tables=0), factory.search(state="cancelled", num_tables=0)
    factory.step(running.id, "evaluate_shard", round_index=0, created_at=NOW - dt.timedelta(seconds=90))
    factory.step(running.id, "evaluate_shard", round_index=0, shard_index=1)
    factory.step(running.id, "evaluate_shard", round_index=0, shard_index=2, not_before=NOW + dt.timedelta(hours=1))
    factory.step(running.id, "evaluate_shard", round_index=0, shard_index=3, state="leased")
    factory.step(over.id, "train_supernet")
    found = scraped(client)
    assert found["nasatlas_queue_depth",] == 2
    assert 90 <= found["nasatlas_queue_oldest_seconds",] < 3600
    assert found["nasatlas_steps", "evaluate_shard", "ready"] == 3


def test_speeds_of_the_last_hour(client: TestClient, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)

    def done(kind: str, shard_index: int, result: dict[str, float], minutes_ago: float, seconds: float) -> None:
        end = NOW - dt.timedelta(minutes=minutes_ago)
        factory.step(
            search.id,
            kind,
            round_index=0,
            shard_index=shard_index,
            state="done",
            result=result,
            started_at=end - dt.timedelta(seconds=seconds),
            finished_at=end,
        )

    done("train_supernet", 0, {"images_per_s": 100.0}, 5, 10)
    done("train_supernet", 1, {"images_per_s": 300.0}, 5, 10)
    done("train_supernet", 2, {"images_per_s": 9000.0}, 90, 10)
    done("evaluate_shard", 0, {"num_pairs": 30}, 5, 10)
    done("reevaluate_shard", 0, {"num_pairs": 10}, 5, 30)
    found = scraped(client)
    assert found["nasatlas_training_images_per_second",] == pytest.approx(200)
    assert found["nasatlas_evaluations_per_second",] == pytest.approx(1)


def test_tau_of_the_latest_tables(client: TestClient, factory: Any, api_settings: Settings) -> None:
    search = factory.search(num_tables=2, segments=[[0, 1, 2, 3], [4, 5, 6, 7]])
    factory.search(num_tables=1)  # its tau is undefined
    with transaction(get_engine(api_settings.required_database_url())) as session:
        for round_index, tau in ((0, 0.5), (1, 0.75)):
            where = (RoundRow.search_id == search.id, RoundRow.round_index == round_index)
            session.execute(update(RoundRow).where(*where).values(held_out_tau=tau))
    found = scraped(client)
    assert [found["nasatlas_held_out_tau", of] for of in ("latest", "lowest", "mean")] == [0.75, 0.5, 0.625]


def test_counters_add_up(client: TestClient, api_settings: Settings) -> None:
    engine = get_engine(api_settings.required_database_url())
    for num_pairs in (20, 22):
        with transaction(engine) as session:
            operations.count(session, {("evaluations", "evaluate_shard"): num_pairs, ("steps_done", "fit_gcn"): 1})
            operations.count(
                session, {("training_images", "train_supernet"): 7, ("training_images", "train_standalone"): 5}
            )
    found = scraped(client)
    assert found["nasatlas_evaluations_total", "evaluate_shard"] == 42
    assert found["nasatlas_steps_done_total", "fit_gcn"] == 2
    assert found["nasatlas_training_images_total", "train_supernet"] == 14
    assert found["nasatlas_training_images_total", "train_standalone"] == 10


def test_lookups_are_timed(client: TestClient, factory: Any) -> None:
    factory.search()
    for _ in range(3):
        assert client.get("/lookup").status_code == 200
    found = scraped(client)
    assert found["nasatlas_lookup_duration_seconds_count", "/lookup"] == 3
    assert found["nasatlas_lookup_duration_seconds_bucket", "+Inf", "/lookup"] == 3


def test_no_label_is_made_up_by_callers(client: TestClient) -> None:
    """Else whoever may ask could let Prometheus keep as many series as there are words."""
    client.get("/lookup")
    client.request("BREW", "/lookup")
    before = set(scraped(client))
    for number in range(20):
        client.request(f"BREW{number}", "/lookup")
        client.get(f"/nothing/{number}")
        client.get(f"/search/{number}", headers={"Host": f"host{number}"})
    new = {sample for sample in set(scraped(client)) - before if not sample[0].endswith("_bucket")}
    assert not [sample for sample in new if re.search(r"\d", "".join(sample[1:]).replace("4xx", ""))], new
    assert ("http_requests_total", "/lookup", "other", "4xx") in before


@pytest.fixture
def two_processes(serve_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The URL of an API of two processes behind one port."""
    shared = tmp_path / "metrics"
    shared.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    return serve_api("--workers", "2", "--loop", "app.server_loop:ServerLoop")


def test_several_processes_answer_for_all(two_processes: str) -> None:
    for _ in range(30):
        # a connection each, so that both processes get some
        assert httpx2.get(f"{two_processes}/lookup").status_code == 404
    for _ in range(10):
        found = samples(httpx2.get(f"{two_processes}/metrics").text)
        assert found["http_requests_total", "/lookup", "GET", "4xx"] == 30
        assert found["nasatlas_lookup_duration_seconds_count", "/lookup"] == 30
        assert found["nasatlas_queue_depth",] == 0
