"""What the pages are made of, without a browser: who sees them, what they say, and the figures that the charts draw."""

import html
import io
import json
import re
import uuid
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import update

from app.dashboard.rendering import STATIC
from app.db.engine import transaction
from app.db.models import RoundRow
from app.domain.search_space import preset
from app.settings import Settings
from tests.integration.conftest import Keys, SearchFactory, StoredSearch
from tests.integration.test_api_retraining import retrained


@pytest.fixture
def stored(factory: SearchFactory) -> StoredSearch:
    return factory.search()


def test_the_list_and_what_it_says_when_it_is_empty(client: TestClient, factory: SearchFactory) -> None:
    assert "Submit the first search" in client.get("/").text
    search = factory.search(state="failed", num_tables=0)
    assert f"/ui/searches/{search.id}" in client.get("/").text
    assert str(search.id) not in client.get("/?state=succeeded").text
    rows = client.get("/", headers={"HX-Request": "true"}).text
    assert "<table" in rows
    assert "<html" not in rows


def test_pages_of_the_list(client: TestClient, factory: SearchFactory) -> None:
    ids = [str(factory.search(num_tables=0).id) for _ in range(3)]
    first = client.get("/?size=2").text
    older = re.search(r'href="(/\?cursor=[^"]*)"', first)
    assert older is not None
    assert ids[0] not in first
    assert ids[0] in client.get(older[1].replace("&amp;", "&")).text


def test_jobs_have_pages_and_are_listed_on_demand(client: TestClient, factory: SearchFactory) -> None:
    search = factory.search()
    factory.step(search.id, "train_supernet", state="done")
    code = search.tables[0].subspace.codes([0])[0]
    jobs = [
        client.post("/devices/here/measurement", json={"search_space": "nas-bench-macro"}).json()["id"],
        client.post(f"/search/{search.id}/architectures/{code}/retraining", json={}).json()["id"],
    ]
    for job_id, title in zip(jobs, ("Measuring networks of nas-bench-macro", "Retraining for digits"), strict=True):
        page = client.get(f"/ui/searches/{job_id}")
        assert page.status_code == 200
        assert title in page.text
        assert "Training of the supernet" not in page.text
        assert job_id not in client.get("/").text
        assert job_id in client.get("/?kind=all").text


def test_what_people_write_is_shown_as_text(client: TestClient, factory: SearchFactory) -> None:
    search = factory.search(num_tables=0)
    factory.change(search.id, dataset="<script>alert(1)</script>", error='"><img src=x>')
    for path in ("/", f"/ui/searches/{search.id}"):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text
        assert "<img src=x>" not in text


def test_errors_are_pages(client: TestClient) -> None:
    for path in (f"/ui/searches/{uuid.uuid4()}", "/ui/searches/nothing", "/ui/nothing"):
        response = client.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "text/html; charset=utf-8"
    for path, parameter in (
        ("/?state=foo", "state"),
        ("/ui/atlas?search_id=xyz", "search_id"),
        ("/ui/data/digits?first_class=-1", "first_class"),
    ):
        response = client.get(path)
        assert response.status_code == 422
        assert f"wrong parameter: {parameter}: " in response.text
        assert "<html" in response.text
    part = client.get(f"/ui/searches/{uuid.uuid4()}/live", headers={"HX-Request": "true"}).text
    assert "There is no search" in part
    assert "<html" not in part


def test_owners_see_their_own_searches_only(keyed_client: TestClient, keys: Keys, factory: SearchFactory) -> None:
    search = factory.search(owner="alice")
    data = ("/training.json", "/rounds/0/fit.json", "/rounds/0/density.json", "/rounds/0/within.json")
    pages = ("", "/live", "/rounds", "/compare", "/rounds/0/rows/1", "/architectures/00000000")
    paths = [f"/ui/searches/{search.id}{rest}" for rest in (*pages, *data)]
    # asked by the owner first, so that what is kept could leak
    for path in [*paths, f"/ui/atlas?search_id={search.id}"]:
        assert keyed_client.get(path, headers=keys.of("alice"), follow_redirects=False).status_code in (200, 303), path
        assert keyed_client.get(path, headers=keys.of("bob"), follow_redirects=False).status_code == 404, path
    assert str(search.id) not in keyed_client.get("/", headers=keys.of("bob")).text


def test_keys_are_listed_for_administrators_only(keyed_client: TestClient, keys: Keys) -> None:
    secret = keys.secret("carol", "read", name="carols-notebook")
    for_admin = keyed_client.get("/ui/keys", headers=keys.of("root", "admin")).text
    assert "carols-notebook" in for_admin
    assert secret not in for_admin
    assert "carols-notebook" not in keyed_client.get("/ui/keys", headers=keys.of("alice")).text
    assert "carols-notebook" in keyed_client.get("/ui/keys", headers={"Authorization": f"Bearer {secret}"}).text


class TestStaticFiles:
    def test_every_file_that_a_page_names_is_here_and_may_be_kept(self, client: TestClient) -> None:
        named: set[str] = set()
        for path in ("/", "/ui/atlas", "/ui/submit", "/docs"):
            named |= set(re.findall(r'(?:src|href)="([^"]+\?v=[^"]+)"', client.get(path).text))
        assert len(named) >= 8
        for address in named:
            response = client.get(address)
            assert response.status_code == 200, address
            assert "immutable" in response.headers["cache-control"]
        assert client.get("/ui/static/atlas.css").headers["cache-control"] == "no-cache"
        assert client.get("/ui/static/../rendering.py").status_code == 404

    def test_no_page_asks_another_server(self, client: TestClient, stored: StoredSearch) -> None:
        for path in ("/", "/docs", "/ui/atlas", "/ui/submit", f"/ui/searches/{stored.id}"):
            assert not re.findall(r'(?:src|href)="(?:https?:)?//', client.get(path).text), path

    def test_licences_lie_beside_the_files_of_others(self) -> None:
        for folder in (STATIC / "vendor").iterdir():
            if folder.is_dir():
                assert (folder / "LICENSE").is_file(), folder.name


def test_the_fit_of_a_round_pairs_predictions_with_what_was_reached(client: TestClient, stored: StoredSearch) -> None:
    fit = client.get(f"/ui/searches/{stored.id}/rounds/0/fit.json").json()
    table = stored.tables[0]
    assert (len(fit["sampled"]), len(fit["reevaluated"])) == (30, 10)
    for point in [*fit["sampled"], *fit["reevaluated"]]:
        index = table.subspace.index(table.subspace.space.parse_code(point["code"]))
        assert point["predicted_accuracy"] == pytest.approx(float(table.predicted_accuracy[index]))
    assert {point["accuracy"] for point in fit["sampled"]} == {0.5}
    assert {point["accuracy"] for point in fit["reevaluated"]} == {0.625}


def test_the_training_curve_while_it_grows_and_afterwards(client: TestClient, factory: SearchFactory) -> None:
    search = factory.search(state="running", num_tables=0)
    path = f"/ui/searches/{search.id}/training.json"
    assert client.get(path).json()["points"] == []
    detail = {"epoch": 2, "epochs": 30, "loss": 1.5, "curve": [[1, 2.0, 0.25], [2, 1.5, 0.5]]}
    step_id = factory.step(search.id, "train_supernet", state="leased", detail=detail)
    assert client.get(path).json() == {"epochs": 30, "points": [[1, 2.0, 0.25], [2, 1.5, 0.5]]}
    # events and answers go without it
    assert client.get(f"/search/{search.id}").json()["steps"][0]["detail"] == {"epoch": 2, "epochs": 30, "loss": 1.5}
    factory.change_step(
        step_id, state="done", result={"loss_curve": [2.0, 1.5, 1.0], "accuracy_curve": [0.2, 0.5, 0.75]}
    )
    assert client.get(path).json()["points"] == [[1, 2.0, 0.2], [2, 1.5, 0.5], [3, 1.0, 0.75]]


def test_what_a_data_set_holds_is_said_beside_its_field(client: TestClient) -> None:
    assert "1,797 images in 10 classes" in client.get("/ui/data-set?dataset=digits").text
    assert "there is no data set" in client.get("/ui/data-set?dataset=cats").text
    assert "hub" in client.get("/ui/data-set?dataset=hub:a/b").text


def test_a_data_set_is_shown_with_its_images(client: TestClient) -> None:
    assert 'href="/ui/data/digits"' in client.get("/ui/data").text
    text = client.get("/ui/data/digits").text
    assert "1,797 images in 10 classes" in text
    assert text.count('<img src="data:image/png;base64,') == 10 * 6
    assert "All were looked at and decoded in full." in text
    assert "All classes" not in text
    assert client.get("/ui/data/cats").status_code == 404


def test_a_data_set_is_shown_with_all_classes_and_all_broken_images(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api_settings: Settings
) -> None:
    png = io.BytesIO()
    Image.new("L", (8, 8), 7).save(png, "PNG")
    for label in range(45):
        (tmp_path / "many" / f"class{label:02}").mkdir(parents=True)
        for index in range(20):
            content = b"x" if label == 44 and index > 3 else png.getvalue()
            (tmp_path / "many" / f"class{label:02}" / f"{index:02}.png").write_bytes(content)
    monkeypatch.setattr(client.app.state, "settings", api_settings.model_copy(update={"data_root": tmp_path}))  # type: ignore[attr-defined]
    first = client.get("/ui/data/many").text
    assert "16 cannot be read" in first
    assert all(first.count(f"class44/{index:02}.png") == 1 for index in range(4, 20))
    assert "Search on it" not in first
    assert all(f">class{label:02}</a>" in first for label in range(45))
    assert "Classes 1 to 20 of 45." in first
    assert "Classes before" not in first
    last = client.get("/ui/data/many?first_class=40").text
    assert "Classes 41 to 45 of 45." in last
    assert (
        last.count('<img src="data:image/png;base64,') == 4 * 6 + 2
    )  # of class44 six are chosen, and two of them can be read
    assert "Classes after" not in last
    beyond = client.get("/ui/data/many?first_class=1000").text
    assert "There are 45 classes." in beyond
    assert "?first_class=40#samples-title" in beyond
    assert "16 cannot be read" in client.get("/ui/data-set?dataset=many").text


def test_comparing_says_what_is_wrong_with_a_code(client: TestClient, stored: StoredSearch) -> None:
    path = f"/ui/searches/{stored.id}/compare"
    assert "They differ in 2 of 8 cells" in client.get(f"{path}?first=00000000&second=01000002").text
    assert "They are the same" in client.get(f"{path}?first=00000000&second=00000000").text
    wrong = client.get(f"{path}?first=00000009&second=0")
    assert wrong.status_code == 200
    assert "the choices 0 to 2, not 9" in wrong.text
    assert "has 8 cells, this one has 1" in wrong.text


class TestArchitecture:
    CODE = "01201201"

    def test_its_page_tells_interval_latency_and_what_is_exported(
        self, client: TestClient, factory: SearchFactory, stored: StoredSearch
    ) -> None:
        report = {"interval": {"level": 0.9, "edges": [], "lower": [-0.1], "upper": [0.1]}}
        with transaction(factory.engine) as session:
            session.execute(update(RoundRow).where(RoundRow.search_id == stored.id).values(fit_report=report))
        latencies = {"search_space": "nas-bench-macro", "base_ms": 1.0, "cells_ms": [[0.0, 0.25, 0.5]] * 8}
        assert client.put("/devices/pixel", json=latencies).status_code == 201
        page = client.get(f"/ui/searches/{stored.id}/architectures/{self.CODE}").text
        assert re.search(r"pixel</th><td class=.num.>2\.75 ms", page)
        predicted = re.search(
            r"<td class=.num.>([\d.]+)\s%<div class=.sub. title=.z is inside with 90\s%.>([\d.]+)", page
        )
        assert predicted is not None
        assert float(predicted[1]) - float(predicted[2]) == pytest.approx(10, abs=0.1)
        assert "are those of the proxy (32 pixels, width 0.25, 10 classes)" in page
        for name in ("recipe", "network", "images"):
            assert f'<select class="form-select" id="{name}">' in page

    def test_comparing_shows_what_was_trained_in_one_way_side_by_side(
        self, client: TestClient, factory: SearchFactory, stored: StoredSearch
    ) -> None:
        retrained(factory, client, stored, self.CODE, 0.8)
        retrained(factory, client, stored, "0" * 8, 0.75)
        retrained(factory, client, stored, "0" * 8, 0.5, epochs=1)
        page = client.get(f"/ui/searches/{stored.id}/compare?first={self.CODE}&second={'0' * 8}").text
        assert page.count("Trained by itself") == 2
        assert "−5.00 points" in page


class TestDevices:
    def test_errors_spread_and_latencies_are_shown(self, client: TestClient, factory: SearchFactory) -> None:
        own = preset("nas-bench-macro").model_copy(update={"name": "mine", "input_resolution": 16})
        search = factory.search(num_tables=0)
        factory.change(search.id, search_space=own.model_dump(mode="json"))
        latencies = {
            "search_space": "nas-bench-macro",
            "base_ms": 1.0,
            "cells_ms": [[0.0, 0.25, 0.5]] * 8,
            "report": {"mean_relative_error": 0.042, "median_spread": 0.013, "spread": "x"},
        }
        assert client.put("/devices/pixel", json=latencies).status_code == 201
        page = client.get("/ui/devices").text
        assert re.search(r'data-label="Error of the sum" class="num">4.2\s%', page)
        assert re.search(r'data-label="Spread" class="num">1.3\s%', page)
        assert "pixel on nas-bench-macro, cell by cell" in page
        assert '<td class="num">0.250</td>' in page
        assert 'data-delete="pixel"' in page
        (given,) = re.findall(r'<option value="([^"]*)">mine \(of a search\)', page)[:1]
        assert json.loads(html.unescape(given))["input_resolution"] == 16

    def test_only_who_may_delete_a_device_is_offered_to(self, keyed_client: TestClient, keys: Keys) -> None:
        latencies = {"search_space": "nas-bench-macro", "base_ms": 1.0, "cells_ms": [[0.0, 0.25, 0.5]] * 8}
        keyed_client.put("/devices/shared", json=latencies, headers=keys.of("root", "admin", name="other"))
        keyed_client.put("/devices/own", json=latencies, headers=keys.of("alice"))
        page = keyed_client.get("/ui/devices", headers=keys.of("alice", name="again")).text
        assert re.findall('data-delete="([^"]*)"', page) == ["own"]


def test_tables_and_pairs_are_linked_as_files(client: TestClient, stored: StoredSearch) -> None:
    text = client.get(f"/ui/searches/{stored.id}").text
    links = [html.unescape(link) for link in re.findall(r'href="([^"]+)" download', text)]
    assert {re.sub(r".*/", "", link) for link in links} >= {
        f"{what}?format={kind}" for what in ("table", "pairs") for kind in ("csv", "parquet")
    }
    for link in links:
        response = client.get(link)
        assert response.status_code == 200, link
        assert "attachment" in response.headers["content-disposition"]
