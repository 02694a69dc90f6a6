"""Lookups through the API: exact against a scan of the whole table, and helpful where there is no answer."""

import math
import uuid
from itertools import product
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, text, update

from app.db.engine import get_engine, transaction
from app.db.models import LookupRow, LookupTableRow, PairRow, RoundRow, SearchRow, SpaceModelRow
from app.db.tables import publish
from app.domain.lookup_table import Limits, LookupTable
from app.domain.multi_adds import cost_functions, count
from app.domain.prediction_interval import PredictionInterval
from app.domain.rank_correlation import kendall_interval, kendall_tau
from app.domain.tensor_bytes import pack
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.model import BlendedPredictor
from app.domain.whole_space.model_bytes import to_bytes

# two of three left-out architectures meet 60M multi-adds
SPACE_REPORT = {
    "predictor": "auto",
    "num_held_out": 3,
    "held_out_tau": 0.5,
    "interval": {"level": 0.9, "edges": [], "lower": [-0.03], "upper": [0.02]},
    "held_out": {
        "choices": [[0] * 8, [1] + [0] * 7, [2] * 8],
        "predicted": [0.5, 0.6, 0.7],
        "accuracy": [0.4, 0.5, 0.3],
    },
}


def brute_force(table: LookupTable, num: int, limits: Limits) -> list[str]:
    return table.subspace.codes(table.top(num, limits))


def codes(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["code"] for item in response.json()["items"]]


@pytest.fixture
def client_with(client: TestClient, factory: Any) -> tuple[TestClient, Any]:
    return client, factory.search()


def test_the_best_under_limits_is_what_a_scan_gives(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    table = search.tables[0]
    rng = np.random.default_rng(0)
    for num in (1, 10, 100):
        for _ in range(10):
            multi_adds, params = int(rng.choice(table.multi_adds)), int(rng.choice(table.params))
            limits = Limits(max_multi_adds=multi_adds, max_params=params)
            query = {"max_madds": multi_adds / 1e6, "max_params": params / 1e6, "limit": num}
            assert codes(client.get("/lookup", params=query)) == brute_force(table, num, limits)
    assert codes(client.get("/lookup", params={"limit": 100})) == brute_force(table, 100, Limits())


def test_an_answer_says_all_that_is_known(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    table = search.tables[0]
    answer = client.get("/lookup", params={"limit": 40}).json()
    assert answer["search_id"] == str(search.id)
    assert (answer["round_index"], answer["num_rows"], answer["message"]) == (0, 6561, None)
    assert answer["table_digest"] == table.digest()
    assert answer["feasible"]["multi_adds"] == {"min": int(table.multi_adds.min()), "max": int(table.multi_adds.max())}
    best = answer["items"][0]
    row = int(table.top(1)[0])
    assert best == {
        "rank": 1,
        "code": table.subspace.codes([row])[0],
        "readable": search.space.readable(table.subspace.architecture(row)),
        "predicted_accuracy": pytest.approx(float(table.predicted_accuracy[row])),
        "interval": None,
        "sampled_accuracy": 0.5,
        "reevaluated_accuracy": 0.625,
        "is_reevaluated": True,
        "multi_adds": int(table.multi_adds[row]),
        "params": int(table.params[row]),
        "latency_ms": {},
    }
    known = [(i["sampled_accuracy"], i["reevaluated_accuracy"]) for i in answer["items"]]
    assert known == [(0.5, 0.625)] * 10 + [(0.5, None)] * 20 + [(None, None)] * 10


def test_an_answer_says_how_sure_it_is(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    table = search.tables[0]
    interval = PredictionInterval(0.9, np.array([0.6]), np.array([-0.1, -0.05]), np.array([0.1, 0.02]))
    report = {"predictor": "auto", "num_held_out": 30, "additive_tau": 0.4, "label_noise": 0.01}
    accuracy = np.random.default_rng(1).random(30)
    held_out = table.order[::200][:30]
    with transaction(get_engine(search_engine_url(client))) as session:
        session.execute(
            update(RoundRow)
            .where(RoundRow.search_id == search.id)
            .values(held_out_tau=0.5, fit_report=report | {"interval": interval.to_dict()})
        )
        session.execute(delete(PairRow).where(PairRow.source == "sampled"))
        for code, z in zip(table.subspace.codes(held_out), accuracy.tolist(), strict=True):
            session.add(
                PairRow(search_id=search.id, round_index=0, source="sampled", code=code, accuracy=z, held_out=True)
            )
    limit = int(np.quantile(table.multi_adds[held_out], 0.6))
    answer = client.get("/lookup", params={"max_madds": limit / 1e6, "limit": 100}).raise_for_status().json()
    for item in answer["items"]:
        below, above = (-0.05, 0.02) if item["predicted_accuracy"] >= 0.6 else (-0.1, 0.1)
        expected = {
            "level": 0.9,
            "lower": item["predicted_accuracy"] + below,
            "upper": item["predicted_accuracy"] + above,
        }
        assert item["interval"] == pytest.approx(expected)
        assert item["is_reevaluated"] == (item["reevaluated_accuracy"] is not None)
    within = table.multi_adds[held_out] <= limit
    tau = kendall_tau(table.predicted_accuracy[held_out][within], accuracy[within])
    assert answer["quality"] == report | {
        "held_out_tau": 0.5,
        "standalone_tau": None,
        "standalone_tau_interval": None,
        "band_tau": pytest.approx(tau),
        "num_in_band": int(within.sum()),
    }
    [one] = client.get(f"/search/{search.id}/architectures/{answer['items'][0]['code']}").json()["predictions"]
    assert one["interval"] == answer["items"][0]["interval"]
    with transaction(get_engine(search_engine_url(client))) as session:
        best = {"best_code": answer["items"][0]["code"], "best_accuracy": 0.7}
        session.execute(update(RoundRow).where(RoundRow.search_id == search.id).values(best))
    round_view = client.get(f"/search/{search.id}/rounds/0").json()
    assert round_view["best"]["accuracy"] == 0.7
    same = ("code", "predicted_accuracy", "interval", "multi_adds", "params")
    assert [round_view["best"][name] for name in same] == [answer["items"][0][name] for name in same]
    assert round_view["quality"] == report | {
        "held_out_tau": 0.5,
        "standalone_tau": None,
        "standalone_tau_interval": None,
        "band_tau": None,
        "num_in_band": None,
    }
    under_limits = client.get(f"/search/{search.id}/rounds/0", params={"max_madds": limit / 1e6}).json()
    assert under_limits == round_view | {"quality": answer["quality"]}


def test_a_limit_that_nothing_meets_names_the_feasible_range(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    response = client.get("/lookup", params={"max_madds": 0.001})
    assert response.status_code == 200
    answer = response.json()
    assert answer["items"] == []
    low = search.tables[0].multi_adds.min()
    assert "max_madds=0.001 is below" in answer["message"]
    assert f"from {math.ceil(low / 1e4) / 100:.2f}M" in answer["message"], "a limit that can be met"
    assert answer["feasible"]["multi_adds"]["min"] == low
    # each by itself is met, both together are not
    table = search.tables[0]
    query = {"max_madds": table.multi_adds.min() / 1e6, "max_params": table.params.min() / 1e6}
    if not table.top(1, Limits(int(table.multi_adds.min()), int(table.params.min()))).size:
        assert "meets max_madds" in client.get("/lookup", params=query).json()["message"]


def test_a_limit_is_exact_in_its_decimals(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    for multi_adds in sorted(set(search.tables[0].multi_adds.tolist()))[:200]:
        items = client.get("/lookup", params={"max_madds": f"{multi_adds / 1e6:.6f}", "limit": 100}).json()["items"]
        expected = brute_force(search.tables[0], 100, Limits(max_multi_adds=multi_adds))
        assert [item["code"] for item in items] == expected


@pytest.mark.parametrize("name", ["max_madds", "max_params", "max_latency_ms"])
@pytest.mark.parametrize("value", ["nan", "-1", "inf", "-inf", "many", "1e999"])
def test_limits_that_are_no_limits(client: TestClient, name: str, value: str) -> None:
    response = client.get("/lookup", params={name: value})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"][0]["loc"][:2] == ["query", name]


@pytest.mark.parametrize("limit", ["0", "101", "-3", "x"])
def test_page_sizes_beyond_the_band(client: TestClient, limit: str) -> None:
    assert client.get("/lookup", params={"limit": limit}).status_code == 422


def test_huge_limits_limit_nothing(client_with: tuple[TestClient, Any]) -> None:
    client, search = client_with
    assert codes(client.get("/lookup", params={"max_madds": 1e300})) == brute_force(search.tables[0], 10, Limits())


def test_the_latest_succeeded_search_answers(client: TestClient, factory: Any) -> None:
    first, second = factory.search(), factory.search(seed=1)
    factory.search(state="running")
    assert client.get("/lookup").json()["search_id"] == str(second.id)
    assert client.get("/lookup", params={"search_id": str(first.id)}).json()["search_id"] == str(first.id)


def test_without_any_succeeded_search(client: TestClient) -> None:
    response = client.get("/lookup")
    assert response.status_code == 404
    assert "POST /search" in response.json()["detail"]


def test_an_unfinished_search_answers_from_published_rounds_only(client: TestClient, factory: Any) -> None:
    search = factory.search(
        space="fairnas",
        state="running",
        num_tables=1,
        segments=[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18]],
    )
    asked = {"search_id": str(search.id)}
    response = client.get("/lookup", params=asked)
    assert response.status_code == 409
    problem = response.json()
    assert (problem["state"], problem["rounds_with_tables"]) == ("running", [0])
    assert "round_index" in problem["detail"]
    assert "wait" in problem["detail"]
    assert codes(client.get("/lookup", params={**asked, "round_index": 0})) == brute_force(
        search.tables[0], 10, Limits()
    )
    assert client.get("/lookup", params={**asked, "round_index": 1}).status_code == 409
    assert client.get("/lookup", params={**asked, "round_index": 9}).status_code == 404


def test_an_unknown_search(client: TestClient) -> None:
    response = client.get("/lookup", params={"search_id": str(uuid.uuid4())})
    assert response.status_code == 404
    assert "GET /search" in response.json()["detail"]


@pytest.mark.parametrize("cost", ["multi_adds", "params"])
def test_the_pareto_front_is_what_a_scan_gives(client_with: tuple[TestClient, Any], cost: str) -> None:
    client, search = client_with
    table = search.tables[0]
    costs = getattr(table, cost)
    expected, cheapest = [], None
    for row in table.order:
        if cheapest is None or costs[row] < cheapest:
            expected.append(row)
            cheapest = costs[row]
    answer = client.get("/lookup/pareto", params={"cost": cost})
    assert codes(answer) == table.subspace.codes(expected[::-1])


def test_rows_come_from_an_index_only_scan(client_with: tuple[TestClient, Any], factory: Any) -> None:
    from app.db import lookup

    with factory.engine.connect() as connection:
        plan = (
            connection.execute(
                text("explain (analyze, format text) " + str(lookup._TOP)),
                {"table_id": 1, "num_rows": 10, "max_multi_adds": 10**8, "max_params": 10**9},
            )
            .scalars()
            .all()
        )
    assert "Index Only Scan using lookup_rows_band" in "\n".join(plan)
    assert "Sort" not in "\n".join(plan)


def test_each_round_has_its_own_table(client: TestClient, factory: Any) -> None:
    search = factory.search(
        space="fairnas",
        num_tables=2,
        num_rounds=2,
        num_preserved=1,
        segments=[[*range(5)], [*range(5, 9)], [*range(9, 14)], [*range(14, 19)]],
    )
    for round_index, table in enumerate(search.tables):
        answer = client.get("/lookup", params={"round_index": round_index})
        assert codes(answer) == brute_force(table, 10, Limits())
    assert client.get("/lookup").json()["round_index"] == 1
    code = search.tables[0].subspace.codes([7])[0]
    known = client.get(f"/search/{search.id}/architectures/{code}").json()
    assert known["predictions"][0] == {
        "round_index": 0,
        "subspace_index": 7,
        "predicted_accuracy": pytest.approx(float(search.tables[0].predicted_accuracy[7])),
        "interval": None,
    }


@pytest.mark.parametrize(
    ("query", "name", "msg"),
    [
        ("max_maddz=4", "max_maddz", "did you mean max_madds?"),
        ("max_madds=400&max_madds=300", "max_madds", "max_madds is given 2 times; give it once"),
        ("page=2", "page", "there are search_id, "),
    ],
)
def test_a_parameter_that_would_be_ignored_is_refused(
    client: TestClient, factory: Any, query: str, name: str, msg: str
) -> None:
    factory.search()
    answer = client.get(f"/lookup?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["query", name]
    assert msg in error["msg"]


class TestWholeSpace:
    @pytest.fixture
    def search(self, factory: Any) -> Any:
        """A search over NAS-Bench-Macro whose whole space was fitted; in the third cell less is better."""
        stored = factory.search()
        sizes = stored.space.num_choices
        tables = tuple(np.arange(size) / (-256 if cell == 2 else 256) for cell, size in enumerate(sizes))
        predictor = BlendedPredictor(AdditiveFunction(0.8, tables))
        model = prepared_model(predictor, cost_functions(stored.space), seed=0)
        with transaction(factory.engine) as session:
            session.add(SpaceModelRow(search_id=stored.id, model=to_bytes(model), report=SPACE_REPORT))
        return stored

    @pytest.mark.parametrize("query", ["", "max_madds=30", "max_params=2.5", "max_madds=60&max_params=2", "limit=100"])
    def test_equals_a_scan_of_all_architectures(self, client: TestClient, search: Any, query: str) -> None:
        answer = client.get(f"/lookup?scope=space&{query}").raise_for_status().json()
        given = dict(part.split("=") for part in query.split("&") if part)
        space = search.space
        found = []
        for architecture in product(*map(range, space.num_choices)):
            cost = count(space, architecture)
            if (
                cost.multi_adds <= float(given.get("max_madds", "inf")) * 1e6
                and cost.params <= float(given.get("max_params", "inf")) * 1e6
            ):
                score = sum(choice / (-256 if cell == 2 else 256) for cell, choice in enumerate(architecture))
                found.append((-score, space.code(architecture), cost.multi_adds, cost.params))
        expected = sorted(found)[: int(given.get("limit", 10))]
        assert [(i["code"], i["multi_adds"], i["params"]) for i in answer["items"]] == [row[1:] for row in expected]
        assert (answer["scope"], answer["is_exact"], answer["num_rows"]) == ("space", True, 6561)
        assert (answer["round_index"], answer["table_digest"]) == (None, None)

    def test_it_says_how_sure_it_is(self, client: TestClient, search: Any) -> None:
        answer = client.get("/lookup?scope=space&max_madds=60&limit=3").raise_for_status().json()
        quality = {name: answer["quality"][name] for name in ("held_out_tau", "band_tau", "num_in_band", "predictor")}
        assert quality == {"held_out_tau": 0.5, "band_tau": 1.0, "num_in_band": 2, "predictor": "auto"}
        for item in answer["items"]:
            assert item["interval"]["upper"] == pytest.approx(min(1.0, item["predicted_accuracy"] + 0.02))
            known = client.get(f"/search/{answer['search_id']}/architectures/{item['code']}").json()
            assert known["space_prediction"]["predicted_accuracy"] == pytest.approx(item["predicted_accuracy"])
            assert known["space_prediction"]["interval"] == pytest.approx(item["interval"])

    def test_it_tells_its_tau_against_what_was_trained_by_itself(
        self, client: TestClient, search: Any, factory: Any
    ) -> None:
        truth = {"22022222": 0.9, "11011111": 0.8, "00200000": 0.6, "22222222": 0.7}
        factory.labelled(search, list(truth), list(truth.values()))
        # this one has corrected the predictor, so it does not judge it
        factory.labelled(search, ["11211111"], [0.85], left_out=[0.99])
        quality = client.get("/lookup?scope=space").raise_for_status().json()["quality"]
        predicted = [sum(int(c) / (-256 if i == 2 else 256) for i, c in enumerate(code)) for code in truth]
        values = predicted, list(truth.values())
        assert quality["standalone_tau"] == pytest.approx(kendall_tau(*values))
        assert quality["standalone_tau_interval"] == kendall_interval(*values)

    def test_known_accuracies_are_shown(self, client: TestClient, search: Any) -> None:
        best = client.get("/lookup?scope=space&limit=1").json()["items"][0]["code"]
        with transaction(get_engine(search_engine_url(client))) as session:
            session.execute(delete(PairRow))
            session.add(PairRow(search_id=search.id, round_index=1, source="sampled", code=best, accuracy=0.25))
        (item,) = client.get("/lookup?scope=space&limit=1").json()["items"]
        assert (item["code"], item["sampled_accuracy"], item["reevaluated_accuracy"]) == (best, 0.25, None)

    def test_a_limit_that_nothing_meets(self, client: TestClient, search: Any) -> None:
        answer = client.get("/lookup?scope=space&max_madds=0.5").raise_for_status().json()
        assert answer["items"] == []
        assert "below the cheapest architecture of this search space" in answer["message"]
        assert answer["feasible"]["multi_adds"]["min"] > 500_000

    def test_a_search_without_it_says_so(self, client: TestClient, factory: Any) -> None:
        stored = factory.search()
        answer = client.get(f"/lookup?scope=space&search_id={stored.id}")
        assert answer.status_code == 409
        assert "without a predictor of the whole space" in answer.json()["detail"]
        assert answer.json()["rounds_with_tables"] == [0]

    def test_one_of_another_version_says_so_and_hides_nothing_else(
        self, client: TestClient, search: Any, factory: Any
    ) -> None:
        with transaction(factory.engine) as session:
            model = pack({}, {"format": "nasatlas whole-space model 99"})
            session.execute(update(SpaceModelRow).where(SpaceModelRow.search_id == search.id).values(model=model))
        answer = client.get(f"/lookup?scope=space&search_id={search.id}")
        assert answer.status_code == 404
        assert "stored by another version" in answer.json()["detail"]
        best = client.get(f"/lookup?search_id={search.id}&limit=1").raise_for_status().json()["items"][0]["code"]
        known = client.get(f"/search/{search.id}/architectures/{best}").raise_for_status().json()
        assert known["space_prediction"] is None
        assert known["predictions"]
        client.get(f"/ui/searches/{search.id}/compare", params={"first": best, "second": best}).raise_for_status()

    def test_it_belongs_to_no_round(self, client: TestClient, search: Any) -> None:
        answer = client.get("/lookup?scope=space&round_index=0")
        assert answer.status_code == 422
        assert "belongs to no round" in answer.json()["detail"]

    @pytest.mark.parametrize("query", ["", f"&search_id={uuid.uuid4()}"])
    def test_nothing_to_ask(self, client: TestClient, query: str) -> None:
        assert client.get(f"/lookup?scope=space{query}").status_code == 404


def search_engine_url(client: TestClient) -> str:
    return str(client.app.state.settings.database_url)  # type: ignore[attr-defined]


class TestWhatIsKeptBetweenLookups:
    def test_a_search_that_was_deleted_is_gone(self, client: TestClient, factory: Any) -> None:
        stored = factory.search()
        assert client.get(f"/lookup?search_id={stored.id}").json()["items"]
        with transaction(factory.engine) as session:
            tables = select(LookupTableRow.id).where(LookupTableRow.search_id == stored.id)
            session.execute(delete(LookupRow).where(LookupRow.table_id.in_(tables)))
            session.execute(delete(SearchRow).where(SearchRow.id == stored.id))
        assert client.get(f"/lookup?search_id={stored.id}").status_code == 404

    def test_a_table_that_takes_anothers_place_answers(self, client: TestClient, factory: Any) -> None:
        stored = factory.search()
        (table,) = stored.tables
        before = client.get(f"/lookup?search_id={stored.id}").json()
        other = LookupTable(table.subspace, table.predicted_accuracy[::-1].copy(), table.multi_adds, table.params)
        with transaction(factory.engine) as session:
            publish(session, stored.id, 0, other)
        after = client.get(f"/lookup?search_id={stored.id}").json()
        assert after["table_digest"] == other.digest() != before["table_digest"]
        assert [item["code"] for item in after["items"]] == other.subspace.codes(other.top(10))

    def test_pairs_that_come_while_a_search_runs_are_shown(self, client: TestClient, factory: Any) -> None:
        stored = factory.search(state="running", num_tables=1)
        asked = f"/lookup?search_id={stored.id}&round_index=0&limit=1"
        (before,) = client.get(asked).json()["items"]
        with transaction(factory.engine) as session:
            code = before["code"]
            session.execute(delete(PairRow))
            session.add(PairRow(search_id=stored.id, round_index=0, source="reevaluated", code=code, accuracy=0.75))
        (after,) = client.get(asked).json()["items"]
        assert (after["code"], after["reevaluated_accuracy"]) == (code, 0.75) != (code, before["reevaluated_accuracy"])
