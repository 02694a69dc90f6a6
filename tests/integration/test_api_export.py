"""Exports through the API: a job at the first request, the file from then on; streams of tables and pairs."""

import csv
import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.engine import transaction
from app.db.models import PairRow
from app.services import data_streams
from app.services.callers import EVERYONE
from app.settings import get_settings
from tests.integration.test_api_retraining import path_of, retrained


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASATLAS_ARTIFACT_URL", str(tmp_path / "artifacts"))
    get_settings.cache_clear()
    return tmp_path / "artifacts"


@pytest.fixture
def search(factory: Any) -> Any:
    search = factory.search()
    factory.step(search.id, "train_supernet", state="done")
    return search


def finish(factory: Any, artifacts: Path, job_id: str, name: str, content: bytes) -> None:
    """What a worker does with an export."""
    (artifacts / job_id).mkdir(parents=True)
    (artifacts / job_id / name).write_bytes(content)
    factory.change(uuid.UUID(job_id), state="succeeded")


@pytest.mark.parametrize(("export_format", "suffix"), [("onnx", ".onnx"), ("safetensors", ".safetensors")])
def test_made_once_and_then_streamed(
    client: TestClient, factory: Any, artifacts: Path, search: Any, export_format: str, suffix: str
) -> None:
    path, query = f"{path_of(search)}/export", {"format": export_format}
    first = client.get(path, params=query)
    assert first.status_code == 202, first.text
    job = first.json()
    assert (job["kind"], job["origin_id"], job["phase"]) == ("export", str(search.id), "queued")
    assert first.headers["location"] == f"/search/{job['id']}"
    assert int(first.headers["retry-after"]) > 0
    assert client.get(path, params=query).json()["id"] == job["id"], "the same export is one job"
    content = np.random.default_rng(0).bytes(3 * 2**20 + 5)
    finish(factory, artifacts, job["id"], f"export{suffix}", content)
    done = client.get(path, params=query)
    assert done.status_code == 200
    assert done.content == content
    assert int(done.headers["content-length"]) == len(content)
    assert done.headers["content-disposition"] == f'attachment; filename="nas-bench-macro-01201201{suffix}"'


def test_other_architectures_formats_and_weights_are_other_jobs(client: TestClient, factory: Any, search: Any) -> None:
    retrained(factory, client, search, "01201201", 0.9)

    def job(code: str, **query: str) -> str:
        return str(client.get(f"{path_of(search, code)}/export", params=query).json()["id"])

    wanted = [
        ("01201201", "onnx", "supernet"),
        ("00000000", "onnx", "supernet"),
        ("01201201", "safetensors", "supernet"),
    ]
    wanted.append(("01201201", "onnx", "retrained"))
    assert len({job(code, format=f, weights=w) for code, f, w in wanted}) == 4


def test_a_newer_retraining_gives_a_newer_export(client: TestClient, factory: Any, search: Any) -> None:
    path, query = f"{path_of(search)}/export", {"format": "onnx", "weights": "retrained"}
    retrained(factory, client, search, "01201201", 0.9)
    first = client.get(path, params=query).json()["id"]
    newer = retrained(factory, client, search, "01201201", 0.8, seed=1)
    second = client.get(path, params=query).json()["id"]
    assert first != second
    payload = (
        factory.engine.connect().exec_driver_sql("select payload from steps where search_id = %s", (second,)).scalar()
    )
    assert payload["export"]["job_id"] == newer
    assert payload["export"]["retraining"]["seed"] == 1


def test_a_file_that_is_gone_is_made_again(client: TestClient, factory: Any, artifacts: Path, search: Any) -> None:
    path, query = f"{path_of(search)}/export", {"format": "onnx"}
    job_id = client.get(path, params=query).json()["id"]
    finish(factory, artifacts, job_id, "export.onnx", b"content")
    (artifacts / job_id / "export.onnx").unlink()
    again = client.get(path, params=query)
    assert again.status_code == 202
    assert again.json()["id"] != job_id


def test_a_job_that_failed_says_so(client: TestClient, factory: Any, search: Any) -> None:
    path, query = f"{path_of(search)}/export", {"format": "onnx"}
    job_id = client.get(path, params=query).json()["id"]
    factory.change(uuid.UUID(job_id), state="failed", error="export: a logit differs")
    response = client.get(path, params=query)
    assert response.status_code == 409
    assert "a logit differs" in response.json()["detail"]
    assert f"POST /search/{job_id}/resume" in response.json()["detail"]


def test_python_needs_no_worker(client: TestClient, search: Any) -> None:
    response = client.get(f"{path_of(search)}/export", params={"format": "python"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/x-python")
    assert "class Network(nn.Module)" in response.text
    compile(response.text, "model.py", "exec")
    assert client.get("/search", params={"kind": "export"}).json()["items"] == []


def test_python_of_retrained_weights_is_the_network_that_was_trained(
    client: TestClient, factory: Any, search: Any
) -> None:
    path = f"{path_of(search)}/export"
    proxy = client.get(path, params={"format": "python"}).text
    retrained(factory, client, search, "01201201", 0.9, network="target")
    target = client.get(path, params={"format": "python", "weights": "retrained"}).text
    assert "ConvBN(3, 8, 3" in proxy
    assert "ConvBN(3, 32, 3" in target


@pytest.mark.parametrize(
    ("code", "query", "status", "says"),
    [
        ("012", {"format": "onnx"}, 422, "8 cells"),
        ("01201201", {}, 422, "format"),
        ("01201201", {"format": "tflite"}, 422, "'onnx', 'safetensors' or 'python'"),
        ("01201201", {"format": "onnx", "weights": "mine"}, 422, "'supernet' or 'retrained'"),
        ("01201201", {"format": "onnx", "weights": "retrained"}, 404, "start one with POST"),
        ("01201201", {"format": "python", "weights": "retrained"}, 404, "start one with POST"),
    ],
)
def test_what_cannot_be_exported(
    client: TestClient, search: Any, code: str, query: dict[str, str], status: int, says: str
) -> None:
    response = client.get(f"{path_of(search, code)}/export", params=query)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert says in response.json()["detail"]


def test_without_a_supernet_there_are_no_weights(client: TestClient, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)
    response = client.get(f"{path_of(search)}/export", params={"format": "onnx"})
    assert response.status_code == 409
    assert "not trained yet" in response.json()["detail"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_streams, "_ROWS", 1000)


@pytest.mark.usefixtures("small_parts")
class TestStreams:
    def test_a_table_as_csv(self, client: TestClient, search: Any) -> None:
        response = client.get(f"/search/{search.id}/rounds/0/table", params={"format": "csv"})
        assert response.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(response.text)))
        table = search.tables[0]
        assert [row["code"] for row in rows] == table.subspace.codes(range(table.num_rows))
        assert [int(row["multi_adds"]) for row in rows] == table.multi_adds.tolist()
        assert [int(row["params"]) for row in rows] == table.params.tolist()
        found = np.array([row["predicted_accuracy"] for row in rows], dtype=np.float32)
        assert np.array_equal(found, table.predicted_accuracy)

    def test_a_table_as_parquet(self, client: TestClient, search: Any) -> None:
        response = client.get(f"/search/{search.id}/rounds/0/table", params={"format": "parquet"})
        found = pyarrow.parquet.ParquetFile(io.BytesIO(response.content))
        assert found.num_row_groups == 7
        columns = found.read()
        table = search.tables[0]
        assert columns["code"].to_pylist() == table.subspace.codes(range(table.num_rows))
        assert np.array_equal(columns["predicted_accuracy"].to_numpy(), table.predicted_accuracy)

    def test_pairs_are_all_there_in_order(self, client: TestClient, factory: Any, search: Any) -> None:
        with transaction(factory.engine) as session:
            session.add_all(
                PairRow(search_id=search.id, round_index=1, source="sampled", code=f"{i:08}", accuracy=i / 4000)
                for i in range(2500)
            )
        path = f"/search/{search.id}/pairs"
        rows = list(csv.DictReader(io.StringIO(client.get(path, params={"format": "csv"}).text)))
        assert len(rows) == 2540
        keys = [(int(row["round_index"]), row["source"], row["code"]) for row in rows]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)
        query = {"format": "parquet", "round_index": 1, "source": "sampled"}
        found = pyarrow.parquet.read_table(io.BytesIO(client.get(path, params=query).content))
        assert found["code"].to_pylist() == [f"{i:08}" for i in range(2500)]
        assert found["accuracy"].to_pylist() == [i / 4000 for i in range(2500)]
        assert found["held_out"].to_pylist() == [False] * 2500

    def test_without_pairs_there_is_a_header(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="running", num_tables=0)
        text = client.get(f"/search/{search.id}/pairs", params={"format": "csv"}).text
        assert text.replace('"', "").strip() == "round_index,source,code,accuracy,held_out"
        content = client.get(f"/search/{search.id}/pairs", params={"format": "parquet"}).content
        assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 0

    def test_pages_are_as_before(self, client: TestClient, search: Any) -> None:
        page = client.get(f"/search/{search.id}/pairs", params={"size": 3}).json()
        assert len(page["items"]) == 3
        assert page["next_page"]

    def test_a_table_that_is_not_there(self, client: TestClient, factory: Any) -> None:
        search = factory.search(state="running", num_tables=0)
        assert client.get(f"/search/{search.id}/rounds/0/table").status_code == 409
        assert client.get(f"/search/{search.id}/rounds/9/table").status_code == 404
        assert client.get(f"/search/{uuid.uuid4()}/rounds/0/table").status_code == 404

    def test_a_table_that_is_replaced_breaks_the_stream_off(
        self, client: TestClient, factory: Any, search: Any
    ) -> None:
        engine: Engine = factory.engine
        stream = data_streams.stream_table(engine, *_opened(engine, search.id), "csv")
        next(stream)
        with engine.begin() as connection:
            connection.exec_driver_sql("delete from lookup_rows")
        with pytest.raises(data_streams.TableGoneError):
            list(stream)


def _opened(engine: Engine, search_id: uuid.UUID) -> Any:
    from app.services.lookup import open_table

    return open_table(engine, EVERYONE, search_id, 0)
