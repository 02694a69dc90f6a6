"""Data sets over HTTP: what there is, what is in it, and uploads with their owners, limits and searches."""

import base64
import io
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.db.engine import get_engine, transaction
from app.db.models import SearchRow
from app.domain import data_sets as data_sets_domain
from app.errors import DataSetExistsError
from app.main import create_app
from app.services import uploads
from app.services.callers import EVERYONE
from app.settings import Settings

ZIP = {"Content-Type": "application/zip"}


@pytest.fixture(autouse=True)
def no_system_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data_sets_domain, "FASHION_MNIST_DIRECTORY", tmp_path / "nothing")


@pytest.fixture
def api_settings(api_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a data root that holds one data set, and a directory of uploads."""
    folder = tmp_path / "data" / "ours"
    for label in ("x", "y"):
        (folder / label).mkdir(parents=True)
        for index in range(3):
            (folder / label / f"{index}.png").write_bytes(png(index))
    changes = {"data_root": tmp_path / "data", "upload_root": tmp_path / "uploads", "max_upload_bytes": 2**21}
    return api_settings.model_copy(update=changes)


def png(shade: int, size: tuple[int, int] = (9, 7)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, shade).save(buffer, "PNG")
    return buffer.getvalue()


def archive(num_images: int = 30, num_classes: int = 2, **extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for index in range(num_images):
            packed.writestr(f"flowers/class{index % num_classes}/{index:03}.png", png(index))
        for name, content in extra.items():
            packed.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def folders(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.uploads().iterdir())


def put(client: TestClient, name: str = "flowers", content: Any = None, **headers: str) -> Any:
    return client.put(f"/datasets/{name}", content=archive() if content is None else content, headers=ZIP | headers)


def test_what_there_is(client: TestClient) -> None:
    put(client).raise_for_status()
    items = client.get("/datasets").json()["items"]
    assert [(item["name"], item["origin"]) for item in items] == [
        ("digits", "built-in"),
        ("flowers", "upload"),
        ("ours", "data-root"),
    ]
    assert items[1]["num_bytes"] == sum(len(png(index)) for index in range(30))
    ours = client.get("/datasets/ours").json()
    assert (ours["num_images"], ours["num_classes"], ours["modes"]) == (6, 2, {"L": 6})
    digits = client.get("/datasets/digits", params={"examine": 5}).json()
    assert (digits["num_examined"], digits["num_decoded"]) == (1797, 1797)
    ours = client.get("/datasets/ours", params={"examine": 2}).json()
    assert (ours["num_examined"], ours["num_decoded"]) == (6, 2)
    missing = client.get("/datasets/nothing")
    assert missing.status_code == 404
    assert "digits, flowers, ours" in missing.json()["detail"]


def test_an_upload_says_what_is_in_it(client: TestClient, api_settings: Settings) -> None:
    response = put(
        client,
        content=archive(30, 2, flowers__class1__broken=b"", **{"flowers__class1__bad.png": b"x", ".DS_Store": b"y"}),
    )
    assert response.status_code == 201, response.text
    view = response.json()
    assert view["classes"] == [{"name": "class0", "num_images": 15}, {"name": "class1", "num_images": 16}]
    assert view["sizes"] == [{"width": 9, "height": 7, "num_images": 30}]
    assert [one["file"] for one in view["broken"]] == ["class1/bad.png"]
    assert (view["num_broken"], view["num_ignored"], view["origin"]) == (1, 2, "upload")
    again = client.get("/datasets/flowers").json()
    assert again == {key: value for key, value in view.items() if key not in ("num_ignored", "ignored")}
    assert len(folders(api_settings)) == 1


def test_an_upload_names_all_that_is_broken(client: TestClient, api_settings: Settings) -> None:
    broken = {f"flowers__class0__{index:04}.png": png(1)[: -40 + index % 20] for index in range(1100)}
    response = put(client, content=archive(600, 3, **broken))
    assert response.status_code == 201, response.text
    view = response.json()
    assert (view["num_images"], view["num_examined"], view["num_broken"]) == (1700, 1700, 1100)
    assert [one["file"] for one in view["broken"]] == [f"class0/{index:04}.png" for index in range(1000)]
    refused = client.post("/search", json={"dataset": "flowers", "batch_size": 4})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["body", "dataset"]
    assert "class0/0000.png is a corrupt or truncated image" in refused.json()["detail"]
    assert "1,099 more cannot be read: class0/0001.png" in refused.json()["detail"]


def test_samples(client: TestClient) -> None:
    put(client).raise_for_status()
    answer = client.get("/datasets/flowers/samples", params={"per_class": 2, "resolution": 16, "first_class": 1}).json()
    assert answer["num_classes"] == 2
    (item,) = answer["items"]
    assert (item["class_name"], len(item["images"])) == ("class1", 2)
    kind, _, content = item["images"][0].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")
    assert client.get("/datasets/nothing/samples").status_code == 404
    assert client.get("/datasets/flowers/samples", params={"resolution": 4096}).status_code == 422


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 422, "no zip archive"),
        (b"PK\x05\x06 nonsense", 422, "no zip archive"),
        (archive(4, 1), 422, "one class only"),
        (archive(2, 2), 422, "at least 2"),
        (archive(4, 2, **{"..__evil.png": b"x"}), 422, "no path inside"),
        (b"x" * (2**21 + 1), 413, "2,097,152"),
        ((b"x" * 2**16 for _ in range(40)), 413, "2,097,152"),
    ],
)
def test_what_is_not_taken_leaves_nothing(
    client: TestClient, api_settings: Settings, content: Any, status: int, says: str
) -> None:
    response = put(client, content=content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert says in response.json()["detail"]
    assert folders(api_settings) == []
    assert client.get("/datasets/flowers").status_code == 404


def test_larger_bodies_are_for_uploads_alone(client: TestClient) -> None:
    large = b" " * (2**20 + 1)
    assert client.put("/devices/pixel", content=large).status_code == 413
    assert client.post("/datasets/flowers", content=large).status_code in (405, 413)
    assert put(client, "bad name!", large).status_code == 422


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "ours", "flowers"])
def test_names_that_are_taken(client: TestClient, api_settings: Settings, name: str) -> None:
    put(client).raise_for_status()
    response = put(client, name)
    assert response.status_code == 409
    assert "another name" in response.json()["detail"]
    assert len(folders(api_settings)) == 1


def test_whose_an_upload_is(keyed_client: TestClient, keys: Any, keyed_settings: Settings) -> None:
    alice, bob, root = keys.of("alice"), keys.of("bob"), keys.of("root", "admin")
    put(keyed_client, **alice).raise_for_status()
    for other in (bob, root):
        assert keyed_client.get("/datasets/flowers", headers=other).status_code == 404
        assert keyed_client.get("/datasets/flowers/samples", headers=other).status_code == 404
        assert keyed_client.delete("/datasets/flowers", headers=other).status_code == 404
        assert "flowers" not in keyed_client.get("/datasets", headers=other).text
        asked = keyed_client.post("/search", json={"dataset": "flowers", "batch_size": 4}, headers=other)
        assert asked.status_code == 422
        assert "no data set 'flowers'" in asked.json()["detail"]
    # his own of that name is another one
    put(keyed_client, content=archive(12, 3), **bob).raise_for_status()
    assert keyed_client.get("/datasets/flowers", headers=bob).json()["num_images"] == 12
    assert keyed_client.get("/datasets/flowers", headers=alice).json()["num_images"] == 30
    assert keyed_client.delete("/datasets/flowers", headers=keys.of("alice", "read")).status_code == 403
    assert put(keyed_client, "more", **keys.of("alice", "read", name="second")).status_code == 403
    assert put(keyed_client, "more").status_code == 401
    assert keyed_client.delete("/datasets/flowers", headers=alice).status_code == 204
    assert keyed_client.get("/datasets/flowers", headers=bob).status_code == 200
    assert len(folders(keyed_settings)) == 1


@pytest.fixture
def limited_client(api_settings: Settings) -> Iterator[TestClient]:
    one = sum(len(png(index)) for index in range(30))
    limited = api_settings.model_copy(update={"max_upload_bytes_per_owner": 2 * one})
    with TestClient(create_app(limited), raise_server_exceptions=False) as client:
        yield client


def test_the_quota_of_bytes(limited_client: TestClient, api_settings: Settings) -> None:
    put(limited_client, "a").raise_for_status()
    refused = put(limited_client, "b", archive(60))
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    assert "DELETE /datasets" in refused.json()["detail"]
    put(limited_client, "b").raise_for_status()
    # full: not even read
    assert put(limited_client, "c", b"no archive").status_code == 429
    assert limited_client.delete("/datasets/a").status_code == 204
    put(limited_client, "c").raise_for_status()
    assert len(folders(api_settings)) == 2


def test_an_upload_that_is_searched_on_stays(client: TestClient) -> None:
    put(client).raise_for_status()
    request = {"dataset": "flowers", "search_space": "nas-bench-macro", "batch_size": 4, "num_sampled": 40}
    search = client.post("/search", json=request)
    assert search.status_code == 202, search.text
    assert search.json()["config"]["num_classes"] == 2
    search_id = search.json()["id"]
    refused = client.delete("/datasets/flowers")
    assert refused.status_code == 409
    assert refused.json()["search_ids"] == [search_id]
    assert client.post(f"/search/{search_id}/cancel").status_code in (200, 202)
    assert client.delete("/datasets/flowers").status_code == 204
    # another upload of that name is not the data of the old search
    put(client).raise_for_status()
    engine = get_engine(client.app.state.settings.required_database_url())  # type: ignore[attr-defined]
    with transaction(engine) as session:
        upload_id = session.query(SearchRow.upload_id).scalar()
    assert str(upload_id) not in folders(client.app.state.settings)  # type: ignore[attr-defined]
    assert client.get(f"/search/{search_id}").json()["dataset"] == "flowers"


def test_what_a_crash_has_left_goes_a_day_later(client: TestClient, api_settings: Settings) -> None:
    put(client).raise_for_status()
    (kept,) = folders(api_settings)
    for name, age_s in ((".incoming-old", 90_000), ("somebody's", 90_000), (".incoming-new", 60), (kept, 90_000)):
        path = api_settings.uploads() / name
        path.mkdir(exist_ok=True)
        os.utime(path, (time.time() - age_s,) * 2)
    put(client, "second").raise_for_status()
    left = folders(api_settings)
    assert {".incoming-new", kept, "somebody's"} < set(left)
    assert len(left) == 4


def test_a_directory_that_cannot_be_written_to(client: TestClient, api_settings: Settings) -> None:
    api_settings.uploads().write_text("a file where the directory should be")
    response = put(client)
    assert (response.status_code, response.json()["missing"]) == (503, ["directory of uploads"])


def test_the_faster_of_two_uploads_of_one_name_stays(client: TestClient, api_settings: Settings) -> None:
    engine = get_engine(api_settings.required_database_url())
    both = [uploads.begin(engine, EVERYONE, "flowers", api_settings) for _ in range(2)]
    for incoming, num_images in zip(both, (30, 12), strict=True):
        uploads.append(incoming, archive(num_images))
    assert uploads.finish(engine, EVERYONE, both[1], api_settings).num_images == 12
    with pytest.raises(DataSetExistsError):
        uploads.finish(engine, EVERYONE, both[0], api_settings)
    for incoming in both:
        incoming.remove()
    assert client.get("/datasets/flowers").json()["num_images"] == 12
    assert folders(api_settings) == [str(both[1].upload_id)]
