"""The Python client against a real server: every call, on searches in a real database."""

import threading
import time
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import fsspec
import pytest
import uvicorn
from PIL import Image
from sqlalchemy import update

from app.client import ConflictError, InvalidRequestError, NasAtlas, NotFoundError, SearchEndedError, UnauthorizedError
from app.db.engine import transaction
from app.db.models import StepRow
from app.domain.architecture_export import artifact_name
from app.main import create_app
from app.settings import Settings


def serving(settings: Settings) -> Iterator[str]:
    """The address of a real server."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def settings(api_settings: Settings, tmp_path: Path) -> Settings:
    return api_settings.model_copy(
        update={"artifact_url": f"file://{tmp_path / 'artifacts'}", "state_dir": tmp_path / "state"}
    )


@pytest.fixture
def atlas(settings: Settings) -> Iterator[NasAtlas]:
    server = serving(settings)
    with NasAtlas(next(server)) as atlas:
        yield atlas
    next(server, None)


def test_from_submission_to_the_end(atlas: NasAtlas, factory: Any) -> None:
    search = atlas.submit(search_space="nas-bench-macro", num_sampled=40, seed=7, idempotency_key="mine")
    again = atlas.submit(search_space="nas-bench-macro", num_sampled=40, seed=7, idempotency_key="mine")
    assert again.id == search.id
    assert (search.state, search.config.seed, search.config.num_sampled) == ("queued", 7, 40)
    assert [summary.id for summary in atlas.searches(state="queued")] == [search.id]

    seen = []
    for view in atlas.follow(search.id):
        seen.append(view.state)
        if view.state == "queued":
            factory.change(search.id, state="running")
        elif view.state == "running" and seen.count("running") == 1:
            with transaction(factory.engine) as session:
                session.execute(update(StepRow).values(state="leased", progress=0.5))
        elif view.state == "running":
            factory.change(search.id, state="failed", error="broken")
    assert seen == ["queued", "running", "running", "failed"]
    with pytest.raises(SearchEndedError, match="broken"):
        atlas.wait(search.id)

    assert atlas.resume(search.id).state == "queued"
    assert atlas.cancel(search.id).state in ("cancelling", "cancelled")
    factory.change(search.id, state="succeeded")
    assert atlas.wait(search.id).id == search.id
    with pytest.raises(ConflictError) as caught:
        atlas.cancel(search.id)
    assert caught.value.problem["state"] == "succeeded"


def test_what_a_search_found(atlas: NasAtlas, factory: Any) -> None:
    search = factory.search()
    table = search.tables[0]
    limit = float(sorted(table.multi_adds)[3000]) / 1e6

    found = atlas.lookup(max_madds=limit, limit=20)
    assert (found.search_id, found.is_exact, len(found.items)) == (search.id, True, 20)
    frame = found.to_dataframe()
    assert frame["multi_adds"].max() <= limit * 1e6
    assert frame["predicted_accuracy"].is_monotonic_decreasing

    whole = atlas.table(search.id, 0).to_dataframe()
    assert len(whole) == len(table.multi_adds)
    assert set(found.to_dataframe()["code"]) <= set(whole["code"])
    front = atlas.pareto(search_id=search.id).to_dataframe()
    assert front["multi_adds"].is_monotonic_increasing
    assert front["predicted_accuracy"].is_monotonic_increasing

    pairs = atlas.pairs(search.id)
    assert len(pairs) == len(pairs.to_dataframe()) == 40
    assert {pair.source for pair in atlas.pairs(search.id, source="reevaluated")} == {"reevaluated"}
    assert len(atlas.pairs(search.id, limit=7)) == 7
    code = found.items[0].code
    assert atlas.architecture(search.id, code).code == code


def test_jobs_and_exports(atlas: NasAtlas, factory: Any, settings: Settings, tmp_path: Path) -> None:
    search = factory.search()
    code = "0" * 8
    factory.step(search.id, "train_supernet", state="done")
    job = atlas.retrain(search.id, code, epochs=3)
    assert (job.kind, job.origin_id) == ("retraining", search.id)
    assert job.retraining is not None
    assert job.retraining.recipe.epochs == 3

    # the worker's part: the file is made while the client waits for it
    def make() -> None:
        while not (exports := atlas_too.searches(kind="export")):
            time.sleep(0.05)
        filesystem, root = fsspec.core.url_to_fs(settings.artifacts())
        filesystem.makedirs(f"{root}/{exports[0].id}")
        filesystem.pipe(f"{root}/{exports[0].id}/{artifact_name('onnx')}", b"onnx")
        factory.change(exports[0].id, state="succeeded")

    with NasAtlas(str(atlas._api.url)) as atlas_too:
        maker = threading.Thread(target=make)
        maker.start()
        file = atlas.export(search.id, code, tmp_path / "net.onnx")
        maker.join()
    assert file.read_bytes() == b"onnx"
    assert "class" in atlas.export(search.id, code, tmp_path / "net.py", format="python").read_text()
    atlas.cancel(job.id)
    atlas.delete(search.id)
    with pytest.raises(NotFoundError):
        atlas.search(search.id)


def test_devices(atlas: NasAtlas, factory: Any) -> None:
    factory.search()
    device = atlas.register_device("pixel", "nas-bench-macro", base_ms=0.5, cells_ms=[[0.1, 0.2, 0.3]] * 8)
    assert [known.name for known in atlas.devices()] == ["pixel"]
    assert atlas.device("pixel") == [device]
    found = atlas.lookup(max_latency_ms={"pixel": 2.0})
    assert found.items
    assert (found.to_dataframe()["latency_ms_pixel"] <= 2.0).all()
    assert atlas.measure_device("server", "nas-bench-macro").kind == "measurement"
    atlas.delete_device("pixel")
    with pytest.raises(NotFoundError):
        atlas.device("pixel")


def test_what_is_wrong_is_said_where_it_is(atlas: NasAtlas) -> None:
    with pytest.raises(InvalidRequestError, match="did you mean num_sampled") as caught:
        atlas.submit(num_samples=3)
    assert caught.value.errors[0]["loc"] == ["body", "num_samples"]
    with pytest.raises(NotFoundError, match="GET /search lists"):
        list(atlas.follow(uuid.uuid4()))


def test_a_key(keyed_settings: Settings, keys: Any) -> None:
    keys.secret("root", "admin")
    server = serving(keyed_settings)
    url = next(server)
    with NasAtlas(url, keys.secret("alice")) as atlas:
        assert atlas.searches() == []
    with NasAtlas(url, "nas_unknown") as stranger, pytest.raises(UnauthorizedError):
        stranger.searches()
    next(server, None)


def test_data_sets(atlas: NasAtlas, tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with ZipFile(archive, "w") as file:
        for number in range(8):
            png = BytesIO()
            Image.new("RGB", (12, 12), (30 * number, 0, 0)).save(png, "PNG")
            file.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", png.getvalue())
    stored = atlas.upload_data_set("pets", archive)
    assert ({one.name for one in stored.classes}, stored.num_images) == ({"cat", "dog"}, 8)
    assert {found.name: found.origin for found in atlas.data_sets()}["pets"] == "upload"
    assert atlas.data_set("pets", examine=2).num_decoded == 2
    atlas.delete_data_set("pets")
    with pytest.raises(NotFoundError):
        atlas.data_set("pets")
