"""Retrainings through the API: submitted as jobs beside searches, refused with reasons, shown beside predictions."""

import json
import re
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db import standalone
from app.db.engine import transaction
from app.db.models import RoundRow
from app.domain.rank_correlation import kendall_interval, kendall_tau
from app.domain.standalone_recipe import from_recipe
from app.services import standalone_view


def path_of(search: Any, code: str = "01201201") -> str:
    return f"/search/{search.id}/architectures/{code}"


def retrained(factory: Any, client: TestClient, search: Any, code: str, accuracy: float, **body: Any) -> str:
    """Submit a retraining, and store its result as a worker would."""
    job = client.post(f"{path_of(search, code)}/retraining", json=body).json()
    with transaction(factory.engine) as session:
        retraining = job["retraining"]
        standalone.add(
            session,
            {
                "job_id": uuid.UUID(job["id"]),
                "search_id": search.id,
                "code": code,
                "accuracy": accuracy,
                "recipe": retraining["recipe_name"],
                "network": retraining["network"],
                "from_supernet": retraining["from_supernet"],
                "seed": retraining["seed"],
                "epochs": retraining["recipe"]["epochs"],
                "retraining": retraining,
                "artifact": f"{job['id']}/standalone",
            },
        )
    factory.change(uuid.UUID(job["id"]), state="succeeded", final_code=code, final_accuracy=accuracy)
    return str(job["id"])


def test_a_retraining_is_a_job_of_its_own(client: TestClient, factory: Any) -> None:
    search = factory.search()
    response = client.post(f"{path_of(search)}/retraining", json={"epochs": 5, "label_smoothing": 0.2})
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/search/{job['id']}"
    assert (job["kind"], job["origin_id"], job["state"], job["rounds"]) == ("retraining", str(search.id), "queued", [])
    assert job["retraining"]["code"] == "01201201"
    recipe = job["retraining"]["recipe"]
    assert (recipe["epochs"], recipe["label_smoothing"], recipe["optimizer"]) == (5, 0.2, "sgd")
    assert recipe["augmentation"] == search.config.augmentation
    assert job["retraining"]["seed"] == search.config.seed
    assert client.get(response.headers["location"]).json() == job
    steps = factory.engine.connect().exec_driver_sql("select kind, payload from steps").all()
    assert [(kind, payload["search_id"]) for kind, payload in steps] == [("train_standalone", str(search.id))]


def test_the_papers_recipe_by_name(client: TestClient, factory: Any) -> None:
    body = {"recipe": "paper", "batch_size": 256, "network": "target", "seed": 7}
    job = client.post(f"{path_of(factory.search())}/retraining", json=body).json()
    expected = from_recipe("paper", {"batch_size": 256, "augmentation": "crop"}).model_dump(mode="json")
    assert job["retraining"]["recipe"] == expected
    assert (job["retraining"]["network"], job["retraining"]["seed"]) == ("target", 7)


def test_lists_hold_searches_unless_asked(client: TestClient, factory: Any) -> None:
    search = factory.search()
    job = client.post(f"{path_of(search)}/retraining", json={}).json()

    def listed(**query: str) -> list[str]:
        return [item["id"] for item in client.get("/search", params=query).json()["items"]]

    assert listed() == [str(search.id)]
    assert listed(kind="retraining") == [job["id"]]
    assert set(listed(kind="all")) == {str(search.id), job["id"]}
    assert listed(kind="export") == []


def test_cancelled_and_resumed_as_a_search_is(client: TestClient, factory: Any) -> None:
    job = client.post(f"{path_of(factory.search())}/retraining", json={}).json()
    assert client.post(f"/search/{job['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/search/{job['id']}/resume").json()["state"] == "queued"
    factory.change(uuid.UUID(job["id"]), state="succeeded")
    problem = client.post(f"/search/{job['id']}/resume").json()
    assert "(retraining) has succeeded already" in problem["detail"]


def test_followed_by_events(client: TestClient, factory: Any) -> None:
    job = client.post(f"{path_of(factory.search())}/retraining", json={}).json()
    client.post(f"/search/{job['id']}/cancel")
    with client.stream("GET", f"/search/{job['id']}/events") as events:
        data = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]
    assert [(event["kind"], event["state"]) for event in data] == [("retraining", "cancelled")]


def test_the_same_key_gives_the_same_job(client: TestClient, factory: Any) -> None:
    search = factory.search()
    headers = {"Idempotency-Key": "mine"}
    first = client.post(f"{path_of(search)}/retraining", json={"epochs": 3}, headers=headers)
    again = client.post(f"{path_of(search)}/retraining", json={"epochs": 3}, headers=headers)
    other = client.post(f"{path_of(search, '0' * 8)}/retraining", json={"epochs": 3}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("code", "body", "loc", "says"),
    [
        ("012", {}, ["path", "code"], "8 cells"),
        ("9" * 8, {}, ["path", "code"], "choices 0 to 2"),
        ("01201201", {"recipe": "large"}, ["body", "recipe"], "'small' or 'paper'"),
        ("01201201", {"epoch": 3}, ["body", "epoch"], "did you mean epochs"),
        ("01201201", {"epochs": 0}, ["body", "epochs"], "greater than or equal to 1"),
        ("01201201", {"learning_rate": "NaN"}, ["body", "learning_rate"], "finite"),
        ("01201201", {"epochs": 2, "warmup_epochs": 3}, ["body"], "lower warmup_epochs"),
        ("01201201", {"recipe": "paper"}, ["body", "batch_size"], "give a smaller batch_size"),
        ("01201201", {"from_supernet": True, "network": "target"}, ["body", "from_supernet"], "give network=proxy"),
        ("01201201", {"num_classes": 11}, ["body", "num_classes"], "digits has 10"),
        ("01201201", {"num_classes": "every"}, ["body", "num_classes"], "'all'"),
        ("01201201", {"num_images": 20, "num_classes": 12}, ["body", "num_classes"], "digits has 10"),
        ("01201201", {"num_images": 200, "batch_size": 512}, ["body", "batch_size"], "more images"),
        ("01201201", {"from_supernet": True, "num_images": 500}, ["body", "from_supernet"], "leave out num_classes"),
        ("01201201", {"network": "both"}, ["body", "network"], "'proxy' or 'target'"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(
    client: TestClient, factory: Any, code: str, body: dict[str, Any], loc: list[str], says: str
) -> None:
    response = client.post(f"{path_of(factory.search(), code)}/retraining", json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert loc in [error["loc"][:2] for error in problem["errors"]], problem
    assert says in " ".join(error["msg"] for error in problem["errors"]), problem
    assert client.get("/search", params={"kind": "retraining"}).json()["items"] == []


def test_a_supernet_that_is_not_trained_has_no_weights_to_give(client: TestClient, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)
    problem = client.post(f"{path_of(search)}/retraining", json={"from_supernet": True})
    assert problem.status_code == 409
    assert "from_supernet=false" in problem.json()["detail"]
    factory.step(search.id, "train_supernet", state="done")
    assert client.post(f"{path_of(search)}/retraining", json={"from_supernet": True}).status_code == 202


def test_only_searches_have_architectures_rounds_and_tables(client: TestClient, factory: Any) -> None:
    search = factory.search()
    job = client.post(f"{path_of(search)}/retraining", json={}).json()
    for method, path in (("POST", "architectures/01201201/retraining"), ("GET", "architectures/01201201")):
        response = client.request(method, f"/search/{job['id']}/{path}", json={} if method == "POST" else None)
        assert response.status_code == 404
        assert str(search.id) in response.json()["detail"]
    assert client.get(f"/search/{job['id']}/rounds/0").status_code == 404
    assert client.get("/lookup", params={"search_id": job["id"]}).status_code == 404
    assert client.post(f"/search/{uuid.uuid4()}/architectures/01201201/retraining", json={}).status_code == 404


def test_lookups_ask_the_latest_search_and_never_a_job(client: TestClient, factory: Any) -> None:
    search = factory.search()
    retrained(factory, client, search, "01201201", 0.9)
    assert client.get("/lookup").json()["search_id"] == str(search.id)


def test_an_accuracy_is_shown_beside_the_prediction(client: TestClient, factory: Any) -> None:
    search = factory.search()
    first = retrained(factory, client, search, "01201201", 0.9, epochs=5)
    second = retrained(factory, client, search, "01201201", 0.8, epochs=5, seed=1)
    architecture = client.get(path_of(search)).json()
    assert len(architecture["predictions"]) == 1
    assert [(s["job_id"], s["accuracy"], s["seed"]) for s in architecture["standalone"]] == [
        (second, 0.8, 1),
        (first, 0.9, 0),
    ]
    assert client.get(f"/search/{first}").json()["final"]["accuracy"] == 0.9


def test_agreement_with_the_truth_from_three_architectures_on(client: TestClient, factory: Any) -> None:
    search = factory.search()
    table = search.tables[0]
    codes = table.subspace.codes(table.order[[0, 2000, 4000, 6000]])
    truth = [0.7, 0.9, 0.6, 0.5]
    for code, accuracy in zip(codes[:2], truth, strict=False):
        retrained(factory, client, search, code, accuracy)
    assert client.get(f"/search/{search.id}").json()["standalone"] is None
    for code, accuracy in zip(codes[2:], truth[2:], strict=True):
        retrained(factory, client, search, code, accuracy)
    # trained in another way: not to be compared with the others
    retrained(factory, client, search, table.subspace.codes([100])[0], 0.1, epochs=1)
    # a second seed is averaged
    retrained(factory, client, search, codes[1], 0.7, seed=1)
    found = client.get(f"/search/{search.id}").json()["standalone"]
    predicted = table.predicted_accuracy[table.order[[0, 2000, 4000, 6000]]]
    assert found["tau_predicted"] == pytest.approx(kendall_tau(predicted, [0.7, 0.8, 0.6, 0.5]))
    assert (found["num_architectures"], found["num_predicted"], found["num_sampled"]) == (4, 4, 1)
    assert (found["recipe"], found["epochs"], found["tau_sampled"]) == ("small", 20, None)
    assert [(one["num_architectures"], one["epochs"], one["tau_predicted"]) for one in found["others"]] == [
        (1, 1, None)
    ]
    assert found["num_not_counted"] == 1


def test_a_round_tells_its_tau_against_the_truth_with_its_interval(client: TestClient, factory: Any) -> None:
    search = factory.search()
    rows = search.tables[0].order[[0, 1000, 3000, 4500, 6000]]
    codes, truth = search.tables[0].subspace.codes(rows), [0.7, 0.9, 0.6, 0.65, 0.5]
    assert client.get(f"/search/{search.id}/rounds/0").json()["standalone"] is None
    factory.labelled(search, codes, truth, None)
    found = client.get(f"/search/{search.id}/rounds/0").json()["standalone"]
    predicted = search.tables[0].predicted_accuracy[rows]
    assert found["num_architectures"] == 5
    assert found["tau"] == pytest.approx(kendall_tau(predicted, truth))
    assert found["tau_interval"] == pytest.approx(kendall_interval(predicted, truth))
    whole = client.get(f"/search/{search.id}").json()
    assert whole["rounds"][0]["standalone"] == found
    assert whole["standalone"]["tau_predicted_interval"] == found["tau_interval"]


def test_answers_tell_the_tau_against_what_was_retrained_after_the_search(
    client: TestClient, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone_view, "AGREEMENT_LASTS_S", 1e-6)
    search = factory.search()
    with transaction(factory.engine) as session:
        session.execute(
            update(RoundRow).where(RoundRow.search_id == search.id).values(fit_report={"predictor": "auto"})
        )
    asked = {"search_id": str(search.id), "max_madds": 30}

    def told() -> tuple[float | None, tuple[float, float] | None]:
        quality = client.get("/lookup", params=asked).raise_for_status().json()["quality"]
        pareto = client.get("/lookup/pareto", params={"search_id": str(search.id)}).raise_for_status().json()["quality"]
        assert pareto["standalone_tau"] == quality["standalone_tau"]
        return quality["standalone_tau"], quality["standalone_tau_interval"]

    assert told() == (None, None)
    rows = search.tables[0].order[[0, 1000, 3000, 4500, 6000]]
    codes, truth = search.tables[0].subspace.codes(rows), [0.7, 0.9, 0.6, 0.65, 0.5]
    for code, accuracy in zip(codes, truth, strict=True):
        retrained(factory, client, search, code, accuracy)
    predicted = search.tables[0].predicted_accuracy[rows]
    tau, interval = told()
    assert tau == pytest.approx(kendall_tau(predicted, truth))
    assert interval == pytest.approx(kendall_interval(predicted, truth))


def test_labels_that_corrected_a_table_judge_what_it_would_be_without_them(client: TestClient, factory: Any) -> None:
    search = factory.search()
    codes = search.tables[0].subspace.codes(search.tables[0].order[[0, 1000, 3000, 4500]])
    factory.labelled(search, codes, [0.7, 0.9, 0.6, 0.5], left_out=[0.1, 0.2, 0.3, 0.4])
    found = client.get(f"/search/{search.id}/rounds/0").json()["standalone"]
    assert found["tau"] == pytest.approx(kendall_tau([0.1, 0.2, 0.3, 0.4], [0.7, 0.9, 0.6, 0.5]))
    assert client.get(f"/search/{search.id}").json()["standalone"]["tau_predicted"] == found["tau"]


def test_labels_of_earlier_rounds_do_not_judge_a_table_that_they_corrected(client: TestClient, factory: Any) -> None:
    search = factory.search(
        num_tables=2, segments=[[0, 1, 2, 3], [4, 5, 6, 7]], num_sampled=40, num_reevaluated=10, num_preserved=1
    )
    codes = search.tables[1].subspace.codes(range(5))
    factory.labelled(search, codes, [0.7, 0.9, 0.6, 0.5, 0.4], None)
    assert client.get(f"/search/{search.id}/rounds/1").json()["standalone"]["num_architectures"] == 5
    factory.labelled(search, codes, [0.7, 0.9, 0.6, 0.5, 0.4], left_out=[0.1, 0.2, 0.3, 0.4, 0.5])
    with transaction(factory.engine) as session:
        session.execute(
            update(RoundRow).where(RoundRow.search_id == search.id, RoundRow.round_index == 1).values(fit_report={})
        )
    assert client.get(f"/search/{search.id}/rounds/0").json()["standalone"]["num_architectures"] == 5
    assert client.get(f"/search/{search.id}/rounds/1").json()["standalone"] is None


def test_the_weights_of_a_label_can_be_exported(client: TestClient, factory: Any) -> None:
    search = factory.search()
    factory.labelled(search, ["01201201"], [0.75], None)
    response = client.get(f"{path_of(search)}/export", params={"format": "onnx", "weights": "retrained"})
    assert response.status_code == 202
    payload = factory.engine.connect().exec_driver_sql("select payload from steps where kind = 'export'").scalar()
    assert payload["export"]["job_id"] == f"{search.id}/standalone-01201201"


def test_a_search_with_true_labels_is_submitted(client: TestClient) -> None:
    body = {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "num_sampled": 40, "num_standalone": 7}
    search = client.post("/search", json=body).json()
    assert (search["config"]["num_standalone"], search["config"]["standalone_start"]) == (7, "scratch")
    assert [one["stages"]["retraining"] for one in search["rounds"]] == [0.0, 0.0, 0.0]
    refused = client.post("/search", json=body | {"num_standalone": 121})
    assert refused.status_code == 422
    assert "lower it to at most 120" in refused.json()["detail"]


def test_a_table_that_is_replaced_in_between_is_no_error(
    client: TestClient, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header is read, then its rows are gone: true labels have corrected it."""
    from app.db import lookup as lookup_db
    from app.db import searches, tables

    search = factory.search()
    codes = search.tables[0].subspace.codes(range(4))
    factory.labelled(search, codes, [0.7, 0.9, 0.6, 0.5], None)

    def replacing(whole: Any) -> Any:
        def replaced_first(*args: Any, **options: Any) -> Any:
            found = whole(*args, **options)
            with transaction(factory.engine) as session:
                tables.publish(session, search.id, 0, search.tables[0])
            return found

        return replaced_first

    with monkeypatch.context() as patched:
        patched.setattr(searches, "tables_of", replacing(searches.tables_of))
        for path in (f"/search/{search.id}", f"/search/{search.id}/rounds/0", path_of(search)):
            assert client.get(path).status_code == 200
    find, calls = lookup_db.find_table, []

    def found_once(*args: Any) -> Any:
        calls.append(1)
        return (replacing(find) if len(calls) == 1 else find)(*args)

    monkeypatch.setattr(lookup_db, "find_table", found_once)
    assert client.get("/lookup/pareto", params={"search_id": str(search.id)}).json()["items"]
    assert len(calls) > 1


def test_on_all_images_and_classes_of_a_search_of_few(client: TestClient, factory: Any) -> None:
    search = factory.search(num_classes=5, num_images=200)
    body = {"num_classes": "all", "num_images": "all", "batch_size": 1024}
    job = client.post(f"{path_of(search)}/retraining", json=body).json()
    on_all = {"num_classes": 10, "num_images": None, "validation_fraction": 0.1}
    assert job["retraining"]["images"] == on_all
    for same in ({}, {"num_classes": 5, "validation_fraction": 0.1}):
        job = client.post(f"{path_of(search)}/retraining", json=same).json()
        assert job["retraining"]["images"] is None, "accuracies on the search's images stay comparable"
    retrained(factory, client, search, "01201201", 0.8)
    retrained(factory, client, search, "01201201", 0.9, **body)
    assert [one["images"] for one in client.get(path_of(search)).json()["standalone"]] == [on_all, None]
    query = {"format": "python", "weights": "retrained"}
    assert re.search(r"nn\.Linear\(\d+, 10\)", client.get(f"{path_of(search)}/export", params=query).text)


def test_retrainings_beside_a_searchs_own_labels_are_a_group_that_is_told(client: TestClient, factory: Any) -> None:
    search = factory.search()
    table = search.tables[0]
    labels = table.subspace.codes(table.order[[0, 1000, 3000, 4500, 6000]])
    factory.labelled(search, labels, [0.7, 0.9, 0.6, 0.65, 0.5], None)
    rows, truth = table.order[[10, 2000, 5000]], [0.9, 0.7, 0.8]
    for code, accuracy in zip(table.subspace.codes(rows), truth, strict=True):
        retrained(factory, client, search, code, accuracy, epochs=3)
    found = client.get(f"/search/{search.id}").json()["standalone"]
    (other,) = found["others"]
    assert (found["num_architectures"], other["num_architectures"], found["num_not_counted"]) == (5, 3, 3)
    assert (other["epochs"], other["images"]) == (3, None)
    assert other["tau_predicted"] == pytest.approx(kendall_tau(table.predicted_accuracy[rows], truth))
