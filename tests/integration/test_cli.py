"""The command line against a real server: submit, follow, look up, cancel, resume; and what it prints."""

import datetime as dt
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import uvicorn

from app.cli.main import run
from app.cli.progress import PlainLines
from app.domain.lookup_table import Limits
from app.main import create_app
from app.services.artifacts import Artifact
from app.settings import Settings, get_settings


@pytest.fixture
def served(api_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real server on the test's database."""
    server = uvicorn.Server(uvicorn.Config(create_app(api_settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    monkeypatch.setenv("NASATLAS_URL", url)
    get_settings.cache_clear()
    yield url
    server.should_exit = True
    thread.join()


@pytest.fixture
def ends_once_shown(factory: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Ends a search as soon as the command has shown it: on a busy machine a timer is over before."""

    def end(search_id: uuid.UUID, **changes: Any) -> None:
        show = PlainLines.show

        def show_and_end(lines: PlainLines, search: dict[str, Any]) -> None:
            show(lines, search)
            factory.change(search_id, **changes)

        monkeypatch.setattr(PlainLines, "show", show_and_end)

    return end


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str, exit_code: int = 0) -> Any:
    assert run([*arguments, "--json"]) == exit_code, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("served")
class TestLookups:
    def test_as_json(self, factory: Any, capsys: pytest.CaptureFixture[str]) -> None:
        search = factory.search()
        table = search.tables[0]
        limit = int(sorted(table.multi_adds)[3000])
        answer = answer_of(capsys, "lookup", "--max-madds", f"{limit / 1e6}", "--limit", "20")
        expected = table.subspace.codes(table.top(20, Limits(max_multi_adds=limit)))
        assert [item["code"] for item in answer["items"]] == expected

    def test_as_a_table(self, factory: Any, capsys: pytest.CaptureFixture[str]) -> None:
        search = factory.search()
        assert run(["lookup", "--search-id", str(search.id), "--round", "0", "--limit", "3"]) == 0
        printed = capsys.readouterr().out
        for code in search.tables[0].subspace.codes(search.tables[0].top(3)):
            assert code in printed
        # the number that --round takes
        assert f"search {search.id}, round 0" in " ".join(printed.split())
        assert run(["lookup", "--max-madds", "0.1"]) == 0
        assert "is below the cheapest" in capsys.readouterr().out

    def test_without_any(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["lookup"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "no search has succeeded yet" in captured.err


@pytest.mark.usefixtures("served")
class TestSearches:
    def test_submit_and_leave(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ("search", "--dataset", "digits", "--search-space", "nas-bench-macro", "--detach", "--seed", "7")
        search = answer_of(
            capsys, *arguments, "--set", "num_sampled=40", "--set", "similarity=measured", "--set", "predictor=paper"
        )
        assert search["state"] == "queued"
        config = search["config"]
        assert (config["seed"], config["num_sampled"], config["similarity"]) == (7, 40, "measured")
        assert answer_of(capsys, "status")["items"][0]["id"] == search["id"]
        assert answer_of(capsys, "status", search["id"])["id"] == search["id"]
        assert answer_of(capsys, "cancel", search["id"])["state"] == "cancelled"
        assert answer_of(capsys, "resume", search["id"], "--detach")["state"] == "queued"
        assert run(["status"]) == 0
        assert search["id"] in capsys.readouterr().out

    def test_bad_requests_say_what_is_wrong(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["search", "--dataset", "nope", "--set", "num_samples=3"]) == 2
        assert "did you mean num_sampled" in capsys.readouterr().err
        assert run(["search", "--dataset", "nope", "--search-space", "darts"]) == 2
        error = capsys.readouterr().err
        assert "dataset: there is no data set 'nope'" in error
        assert "search_space: there is no search space 'darts'" in error

    def test_unknown_ids(self, capsys: pytest.CaptureFixture[str]) -> None:
        for command in ("status", "cancel", "resume", "pairs"):
            assert run([command, str(uuid.uuid4())]) == 2
            assert "there is no search" in capsys.readouterr().err
            assert run([command, "mine"]) == 2

    def test_pairs_over_all_pages(
        self, factory: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search = factory.search()
        monkeypatch.setattr("app.cli.searches.PAGE_SIZE", 7)
        assert len(answer_of(capsys, "pairs", str(search.id), "--limit", "0")["items"]) == 40
        assert len(answer_of(capsys, "pairs", str(search.id), "--limit", "9")["items"]) == 9
        assert len(answer_of(capsys, "pairs", str(search.id), "--source", "reevaluated", "--round", "0")["items"]) == 10
        assert run(["pairs", str(search.id)]) == 0
        assert "62.50%" in capsys.readouterr().out

    def test_follow_to_the_end(
        self, factory: Any, capsys: pytest.CaptureFixture[str], ends_once_shown: Callable[..., None]
    ) -> None:
        search = factory.search(state="running")
        lease = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
        factory.step(
            search.id, "train_supernet", state="leased", progress=0.5, detail={"epoch": 3}, lease_expires_at=lease
        )
        code = search.tables[0].subspace.codes([5])[0]
        ends_once_shown(search.id, state="succeeded", final_code=code, final_accuracy=0.75)
        assert run(["resume", str(search.id)]) == 0
        captured = capsys.readouterr()
        assert code in captured.out
        assert "75.00%" in captured.out
        assert "epoch 3" in captured.err
        assert "succeeded" in captured.err

    @pytest.mark.parametrize("state", ["failed", "cancelled"])
    def test_follow_to_a_bad_end(
        self, factory: Any, capsys: pytest.CaptureFixture[str], ends_once_shown: Callable[..., None], state: str
    ) -> None:
        search = factory.search(state="running", num_tables=0)
        ends_once_shown(search.id, state=state, error="the disk is full")
        assert run(["resume", str(search.id)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"nasatlas resume {search.id}" in captured.err
        assert state != "failed" or "the disk is full" in captured.err


@pytest.mark.usefixtures("served")
def test_the_demo_ends_with_lookups(
    factory: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = factory.search()
    # the search itself takes minutes; another one that is done stands in for it here
    monkeypatch.setattr("app.cli.demo.follow", lambda connection, *_: connection.api.get(f"/search/{search.id}"))
    monkeypatch.setattr("app.cli.demo.LOOKUPS", ({}, {"max_madds": 100.0}, {"max_madds": 0.5}))
    assert run(["demo"]) == 0
    printed = capsys.readouterr().out
    table = search.tables[0]
    best = search.space.readable(table.subspace.architecture(int(table.top(1)[0])))
    assert best in printed
    assert "max_madds=100" in printed
    assert "is below the cheapest" in printed
    assert "nasatlas lookup" in printed
    answer = answer_of(capsys, "demo")
    assert [len(lookup["answer"]["items"]) for lookup in answer["lookups"]] == [1, 1, 0]
    assert answer["search"]["id"] == str(search.id)


@pytest.mark.usefixtures("served")
class TestNetworks:
    CODE = "01201201"

    def test_a_retraining_is_submitted_with_what_is_given(
        self, factory: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        search = factory.search()
        arguments = ["--recipe", "paper", "--epochs", "9", "--batch-size", "64", "--set", "dropout=0.5", "--detach"]
        answer = answer_of(capsys, "retrain", str(search.id), self.CODE, *arguments)
        retraining = answer["job"]["retraining"]
        assert (retraining["recipe_name"], retraining["recipe"]["epochs"]) == ("paper", 9)
        assert (retraining["recipe"]["batch_size"], retraining["recipe"]["dropout"]) == (64, 0.5)
        assert answer["architecture"]["code"] == self.CODE

    def test_a_retraining_is_followed_to_its_end(self, factory: Any, capsys: pytest.CaptureFixture[str]) -> None:
        search = factory.search()
        ending = threading.Thread(target=self.end_jobs, args=(factory,))
        ending.start()
        assert run(["retrain", str(search.id), self.CODE, "--from-supernet"]) == 2, "there is no supernet"
        assert "not trained yet" in capsys.readouterr().err
        assert run(["retrain", str(search.id), self.CODE]) == 0
        ending.join()
        printed = capsys.readouterr()
        assert "predicted in round 0" in printed.out
        assert "retraining" in printed.err

    def end_jobs(self, factory: Any) -> None:
        """A worker that ends the first job it finds."""
        statement = "update searches set state = 'succeeded' where kind <> 'search' returning id"
        for _ in range(600):
            with factory.engine.begin() as connection:
                if connection.exec_driver_sql(statement).all():
                    return
            time.sleep(0.05)

    def test_what_is_wrong_with_a_retraining(self, factory: Any, capsys: pytest.CaptureFixture[str]) -> None:
        search = factory.search()
        assert run(["retrain", str(search.id), self.CODE, "--recipe", "paper"]) == 2
        assert "give a smaller batch_size" in capsys.readouterr().err

    def test_an_export_waits_for_the_file(
        self, factory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search = factory.search()
        factory.step(search.id, "train_supernet", state="done")
        monkeypatch.setattr(
            "app.services.artifacts.find", lambda *_: Artifact(3, str(tmp_path / "stored"), fsspec.filesystem("file"))
        )
        (tmp_path / "stored").write_bytes(b"abc")
        ending = threading.Thread(target=self.end_jobs, args=(factory,))
        ending.start()
        target = tmp_path / "network.onnx"
        answer = answer_of(capsys, "export", str(search.id), self.CODE, "--output", str(target))
        ending.join()
        assert answer == {"files": [{"path": str(target), "num_bytes": 3}]}
        assert target.read_bytes() == b"abc"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["network.onnx", "stored"]

    def test_what_is_wrong_with_an_export(
        self, factory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        search = factory.search()
        arguments = ["export", str(search.id), self.CODE]
        assert run([*arguments, "--output", str(tmp_path / "none" / "network.onnx")]) == 2
        assert "create it first" in capsys.readouterr().err
        assert run([*arguments, "--output", str(tmp_path / "n"), "--weights", "retrained"]) == 2
        assert "start one with POST" in capsys.readouterr().err
        assert run([*arguments, "--output", str(tmp_path / "n"), "--format", "tflite"]) == 2
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("served")
def test_a_webhook_is_named_with_what_is_submitted(factory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    search_id = str(factory.search().id)
    for command in (
        ("search", "--search-space", "nas-bench-macro"),
        ("retrain", search_id, "0" * 8),
        ("devices", "measure", "pixel"),
    ):
        assert run([*command, "--detach", "--webhook-url", "https://example.org"]) == 2
        assert "webhook_url: this service signs no webhooks" in capsys.readouterr().err
