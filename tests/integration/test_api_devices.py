"""Devices: registered, listed, whose they are; and lookups under limits on their latency."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, update

from app.db.engine import get_engine, transaction
from app.db.models import DeviceRow, PairRow, RoundRow, SpaceModelRow
from app.domain.latency import LatencyTable, former_layout_digest
from app.domain.lookup_table import Limits, LookupTable
from app.domain.multi_adds import cost_functions
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import SearchSpace, preset
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.model import BlendedPredictor
from app.domain.whole_space.model_bytes import to_bytes


def latencies(seed: int, space: SearchSpace | None = None) -> LatencyTable:
    rng = np.random.default_rng(seed)
    cells = tuple(tuple(rng.random(n).tolist()) for n in (space or preset("nas-bench-macro")).num_choices)
    return LatencyTable(float(rng.random()), cells)


def register(client: TestClient, name: str, table: LatencyTable, **options: Any) -> Any:
    space = options.pop("space", "nas-bench-macro")
    return client.put(f"/devices/{name}", json={"search_space": space, **table.to_dict()}, **options)


def codes(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["code"] for item in response.json()["items"]]


def brute_force(table: LookupTable, num: int, limits: Limits, *more: tuple[LatencyTable, float]) -> list[str]:
    """Every architecture's costs one by one, as the database has them; latencies summed cell by cell."""
    best = []
    choices_NL = table.subspace.architectures(np.arange(table.num_rows))
    milliseconds = [(device.function.of(choices_NL), max_ms) for device, max_ms in more]
    for row in table.top(table.num_rows, limits).tolist():
        if all(ms_N[row] <= max_ms for ms_N, max_ms in milliseconds):
            best.append(row)
    return table.subspace.codes(best[:num])


def test_registered_read_listed_replaced_deleted(client: TestClient) -> None:
    table, other = latencies(0), latencies(1)
    response = register(client, "pixel", table)
    assert response.status_code == 201
    view = response.json()
    assert (view["name"], view["origin"], view["is_shared"]) == ("pixel", "uploaded", True)
    assert (view["base_ms"], view["cells_ms"]) == (table.base_ms, [list(cell) for cell in table.cells_ms])
    assert view["min_ms"] == pytest.approx(table.base_ms + sum(map(min, table.cells_ms)))
    assert client.get("/devices/pixel").json()["items"] == [view]
    assert register(client, "pixel", other).status_code == 200
    fairnas = latencies(2, preset("fairnas"))
    assert register(client, "pixel", fairnas, space="fairnas").status_code == 201
    assert register(client, "another", table).status_code == 201
    items = client.get("/devices").json()["items"]
    assert [(i["name"], i["search_space"]) for i in items] == [
        ("another", "nas-bench-macro"),
        ("pixel", "nas-bench-macro"),
        ("pixel", "fairnas"),
    ]
    assert items[1]["base_ms"] == other.base_ms
    assert client.delete("/devices/pixel").status_code == 204
    assert client.get("/devices/pixel").status_code == 404
    assert "there are another" in client.delete("/devices/pixel").json()["detail"]


def test_registered_from_csv(client: TestClient) -> None:
    table = latencies(0)
    body = {"search_space": "nas-bench-macro", "csv": table.to_csv(), "report": {"runtime": "measured elsewhere"}}
    view = client.put("/devices/pixel", json=body).json()
    assert view["cells_ms"] == [list(cell) for cell in table.cells_ms]
    assert view["report"] == {"runtime": "measured elsewhere"}


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        ({"search_space": "nas-bench-macro"}, ["body"], "give base_ms and cells_ms, or csv"),
        ({"search_space": "nas-bench-macro", "base_ms": 1, "cells_ms": [[1]]}, ["body", "cells_ms"], "has 8 cells"),
        ({"search_space": "no-space", "csv": "x"}, ["body", "search_space"], "there is no search space"),
        ({"csv": "x"}, ["body", "csv"], "first line must be"),
        ({"base_ms": -1, "cells_ms": []}, ["body", "base_ms"], "greater than or equal to 0"),
        ({"base_ms": 1, "cells_ms": [[1]], "csv": "x"}, ["body"], "not both"),
        ({"csv": "x", "report": {"a": "x" * 30_000}}, ["body"], "report is longer"),
    ],
)
def test_latencies_that_will_not_do(client: TestClient, body: Any, loc: list[str], message: str) -> None:
    response = client.put("/devices/pixel", json=body)
    assert response.status_code == 422
    error = response.json()["errors"][0]
    assert error["loc"] == loc
    assert message in error["msg"]
    assert client.get("/devices").json() == {"items": []}


@pytest.mark.parametrize("name", ["-x", "a b", "x" * 65, "%00"])
def test_names_that_will_not_do(client: TestClient, name: str) -> None:
    assert client.put(f"/devices/{name}", json={"csv": "x"}).status_code == 422


def test_lookups_under_latency_are_what_a_scan_gives(client: TestClient, factory: Any) -> None:
    search = factory.search()  # finished before the device exists
    table, pixel, jetson = search.tables[0], latencies(0), latencies(1)
    register(client, "pixel", pixel)
    register(client, "jetson", jetson)
    rng = np.random.default_rng(0)
    ms_N, other_N = table.subspace.sums(pixel.function), table.subspace.sums(jetson.function)
    for _ in range(10):
        row, num = int(rng.integers(table.num_rows)), int(rng.choice([1, 10, 100]))
        limits = Limits(int(table.multi_adds[rng.integers(table.num_rows)]), int(table.params[row]))
        query = {"max_madds": limits.max_multi_adds / 1e6, "max_params": limits.max_params / 1e6, "limit": num}
        one = {**query, "device": "pixel", "max_latency_ms": repr(float(ms_N[row]))}
        assert codes(client.get("/lookup", params=one)) == brute_force(table, num, limits, (pixel, ms_N[row]))
        two = {"device": ["pixel", "jetson"], "max_latency_ms": [repr(float(ms_N[row])), repr(float(other_N[row]))]}
        expected = brute_force(table, num, Limits(), (pixel, ms_N[row]), (jetson, other_N[row]))
        answer = client.get("/lookup", params={**two, "limit": num})
        assert codes(answer) == expected
        for item in answer.json()["items"]:
            index = table.subspace.index(search.space.parse_code(item["code"]))
            exact = pytest.approx({"pixel": ms_N[index], "jetson": other_N[index]}, rel=1e-12)
            assert item["latency_ms"] == exact
            assert item["latency_ms"]["pixel"] <= ms_N[row]
    # new latencies of the same device hold at once
    register(client, "pixel", jetson)
    limit = float(np.median(other_N))
    answer = client.get("/lookup", params={"device": "pixel", "max_latency_ms": limit})
    assert codes(answer) == brute_force(table, 10, Limits(), (jetson, limit))


def test_a_device_alone_shows_its_latency(client: TestClient, factory: Any) -> None:
    table, pixel = factory.search().tables[0], latencies(0)
    register(client, "pixel", pixel)
    answer = client.get("/lookup", params={"device": "pixel"})
    assert codes(answer) == brute_force(table, 10, Limits())
    ms_N = table.subspace.sums(pixel.function)
    expected = pytest.approx({"min": ms_N.min(), "max": ms_N.max()}, rel=1e-12)
    assert answer.json()["feasible"]["latency_ms"]["pixel"] == expected


def test_an_answer_under_latency_says_how_well_the_pairs_within_it_are_ranked(client: TestClient, factory: Any) -> None:
    search, pixel = factory.search(), latencies(0)
    table = search.tables[0]
    register(client, "pixel", pixel)
    held_out, z_K = table.order[::200][:30], np.random.default_rng(1).random(30)
    with transaction(get_engine(client.app.state.settings.required_database_url())) as session:  # type: ignore[attr-defined]
        session.execute(
            update(RoundRow).where(RoundRow.search_id == search.id).values(fit_report={"predictor": "auto"})
        )
        session.execute(delete(PairRow).where(PairRow.source == "sampled"))
        for code, z in zip(table.subspace.codes(held_out), z_K.tolist(), strict=True):
            pair = {"source": "sampled", "code": code, "accuracy": z, "held_out": True}
            session.add(PairRow(search_id=search.id, round_index=0, **pair))
    ms_K = table.subspace.sums(pixel.function)[held_out]
    within = (ms_K <= np.median(ms_K)) & (table.multi_adds[held_out] <= np.median(table.multi_adds[held_out]))
    asked = {"max_madds": np.median(table.multi_adds[held_out]) / 1e6, "max_latency_ms": repr(float(np.median(ms_K)))}
    quality = client.get("/lookup", params={"device": "pixel", **asked}).raise_for_status().json()["quality"]
    assert 2 < within.sum() < 15
    assert quality["num_in_band"] == within.sum()
    assert quality["band_tau"] == pytest.approx(kendall_tau(table.predicted_accuracy[held_out][within], z_K[within]))
    path = f"/search/{search.id}/rounds/0"
    assert client.get(path, params={"device": "pixel", **asked}).raise_for_status().json()["quality"] == quality
    assert client.get(path, params={"device": "unknown"}).status_code == 404
    assert client.get(path, params=asked).status_code == 422


def test_latencies_that_nothing_meets(client: TestClient, factory: Any) -> None:
    table, pixel = factory.search().tables[0], latencies(0)
    register(client, "pixel", pixel)
    answer = client.get("/lookup", params={"device": "pixel", "max_latency_ms": 0.0001}).json()
    assert answer["items"] == []
    least = table.subspace.sums(pixel.function).min()
    assert "max_latency_ms=0.0001 on pixel is below the cheapest architecture of this table" in answer["message"]
    told = answer["message"].split("go from ")[1].split(" to ")[0]
    assert least <= float(told) < 1.001 * least
    assert client.get("/lookup", params={"device": "pixel", "max_latency_ms": told}).json()["items"]


def test_devices_that_are_not_there(client: TestClient, factory: Any) -> None:
    factory.search()
    query = {"device": "pixel", "max_latency_ms": 3}
    response = client.get("/lookup", params=query)
    assert response.status_code == 404
    assert "none is registered yet" in response.json()["detail"]
    register(client, "pixel", latencies(0, preset("fairnas")), space="fairnas")
    response = client.get("/lookup", params=query)
    assert response.status_code == 404
    assert "known for the search space fairnas, not for the networks of this search" in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ({"max_latency_ms": 3}, "device"),
        ({"device": ["a", "b"], "max_latency_ms": 3}, "max_latency_ms"),
        ({"device": ["a", "a"], "max_latency_ms": [3, 4]}, "device"),
        ({"device": ["a"] * 9}, "device"),
        ({"device": "no name"}, "device"),
    ],
)
def test_limits_that_fit_no_device(client: TestClient, query: Any, loc: str) -> None:
    response = client.get("/lookup", params=query)
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"][:2] == ["query", loc]


def test_the_whole_space_under_latency(client: TestClient, factory: Any) -> None:
    search, pixel = factory.search(), latencies(0)
    register(client, "pixel", pixel)
    rng = np.random.default_rng(3)
    score = AdditiveFunction(0.5, tuple(rng.normal(0, 0.02, n) for n in search.space.num_choices))
    model = prepared_model(BlendedPredictor(score), cost_functions(search.space), seed=0)
    with transaction(get_engine(client.app.state.settings.required_database_url())) as session:  # type: ignore[attr-defined]
        subspace = search.tables[0].subspace  # which is the whole space here
        ms_N, predicted_N = subspace.sums(pixel.function), subspace.sums(score)
        left_out_K, z_K = rng.permutation(subspace.size)[:30], rng.random(30)
        held_out = {
            "choices": subspace.architectures(left_out_K).tolist(),
            "predicted": predicted_N[left_out_K].tolist(),
            "accuracy": z_K.tolist(),
        }
        session.add(SpaceModelRow(search_id=search.id, model=to_bytes(model), report={"held_out": held_out}))
    for limit in np.quantile(ms_N, [0.001, 0.1, 0.7]):
        query = {"scope": "space", "device": "pixel", "max_latency_ms": repr(float(limit)), "limit": 20}
        answer = client.get("/lookup", params=query)
        order = np.argsort(-predicted_N, kind="stable")
        assert codes(answer) == subspace.codes(order[ms_N[order] <= limit][:20])
        assert all(item["latency_ms"]["pixel"] <= limit for item in answer.json()["items"])
        within = ms_N[left_out_K] <= limit
        tau = kendall_tau(predicted_N[left_out_K][within], z_K[within])
        quality = answer.json()["quality"]
        assert (quality["num_in_band"], quality["band_tau"]) == (within.sum(), pytest.approx(tau))
    answer = client.get("/lookup", params={"scope": "space", "device": "pixel", "max_latency_ms": 0}).json()
    assert "on pixel is below the cheapest architecture of this search space" in answer["message"]


def test_whose_a_device_is(keyed_client: TestClient, keys: Any, factory: Any) -> None:
    alice, bob, root = keys.of("alice"), keys.of("bob"), keys.of("root", "admin")
    mine, shared = latencies(0), latencies(1)
    table = factory.search(owner="alice").tables[0]
    factory.search(owner="bob")
    register(keyed_client, "pixel", mine, headers=alice)
    asked = {"device": "pixel", "max_latency_ms": 3.5}
    assert keyed_client.get("/devices/pixel", headers=bob).status_code == 404
    assert keyed_client.get("/lookup", params=asked, headers=bob).status_code == 404
    assert register(keyed_client, "pixel", shared, headers=root).json()["is_shared"]
    # her own comes first; he has only everybody's
    assert codes(keyed_client.get("/lookup", params=asked, headers=alice)) == brute_force(
        table, 10, Limits(), (mine, 3.5)
    )
    assert codes(keyed_client.get("/lookup", params=asked, headers=bob)) == brute_force(
        table, 10, Limits(), (shared, 3.5)
    )
    assert keyed_client.delete("/devices/pixel", headers=bob).status_code == 404
    assert keyed_client.delete("/devices/pixel", headers=keys.of("alice", "read")).status_code == 403
    assert keyed_client.delete("/devices/pixel", headers=alice).status_code == 204
    assert [d["is_shared"] for d in keyed_client.get("/devices", headers=alice).json()["items"]] == [True]


def test_a_device_stored_by_an_earlier_version_is_found_and_replaced(client: TestClient, factory: Any) -> None:
    search = factory.search(space="fairnas")
    assert register(client, "pixel", latencies(0, search.space), space="fairnas").status_code == 201
    with transaction(factory.engine) as session:
        session.execute(update(DeviceRow).values(layout_digest=former_layout_digest(search.space)))
    query = {"search_id": str(search.id), "round_index": 0, "device": "pixel"}
    assert client.get("/lookup", params=query).json()["items"][0]["latency_ms"].keys() == {"pixel"}
    assert register(client, "pixel", latencies(1, search.space), space="fairnas").status_code == 200
    assert len(client.get("/devices/pixel").json()["items"]) == 1


def test_a_limit_in_decimals_is_met_by_what_costs_exactly_that(client: TestClient, factory: Any) -> None:
    """1.5 and eight times 0.1 are 2.3, though no binary fraction is any of these."""
    search = factory.search()
    table, cells = search.tables[0], ((0.1, 0.6, 1.4),) * 8
    register(client, "pixel", LatencyTable(1.5, cells))
    choices_NL = table.subspace.architectures(np.arange(table.num_rows)).tolist()
    tenths_N = np.array([15 + sum((1, 6, 14)[choice] for choice in row) for row in choices_NL])
    for tenths in np.unique(tenths_N)[:12].tolist():
        query = {"device": "pixel", "max_latency_ms": tenths / 10, "search_id": str(search.id), "limit": 100}
        answer = client.get("/lookup", params=query).json()
        expected = [row for row in table.top(table.num_rows).tolist() if tenths_N[row] <= tenths][:100]
        assert [item["code"] for item in answer["items"]] == table.subspace.codes(expected)
        assert {item["latency_ms"]["pixel"] for item in answer["items"]} == set((tenths_N[expected] / 10).tolist())
        assert answer["feasible"]["latency_ms"]["pixel"]["min"] == tenths_N.min() / 10
    view = client.get("/devices/pixel").json()["items"][0]
    assert (view["min_ms"], view["max_ms"]) == (2.3, 12.7)
    assert submitted(client, target_latency_ms={"pixel": [2.3]}).status_code == 202


def submitted(client: TestClient, headers: Any = None, **changes: Any) -> Any:
    body = {"dataset": "digits", "search_space": "nas-bench-macro", **changes}
    return client.post("/search", json=body, headers=headers)


def test_a_search_keeps_the_latencies_that_its_limits_are_about(client: TestClient) -> None:
    table = latencies(0)
    register(client, "pixel", table)
    limit = table.function.minimum + 1.0
    search = submitted(client, target_latency_ms={"pixel": [limit]}).json()
    # new latencies, or none, make no difference to it
    register(client, "pixel", latencies(1))
    client.delete("/devices/pixel")
    config = client.get(f"/search/{search['id']}").json()["config"]
    assert config["target_latency_ms"] == {"pixel": [limit]}
    assert LatencyTable.from_dict(config["device_latencies"]["pixel"]) == table
    # what the search says of itself is a request that needs no registered device
    again = submitted(client, **{name: config[name] for name in ("target_latency_ms", "device_latencies")})
    assert again.status_code == 202, again.text


def test_lookups_know_the_latencies_that_a_search_has_kept(client: TestClient, factory: Any) -> None:
    kept, today = latencies(0), latencies(1)
    config = {"target_latency_ms": {"mine": [50]}, "device_latencies": {"mine": kept.to_dict()}}
    search = factory.search(**config)
    table = search.tables[0]
    query = {"search_id": str(search.id), "device": "mine", "max_latency_ms": 4.0}
    assert codes(client.get("/lookup", params=query)) == brute_force(table, 10, Limits(), (kept, 4.0))
    # a registered device of that name is what a device is today
    register(client, "mine", today)
    assert codes(client.get("/lookup", params=query)) == brute_force(table, 10, Limits(), (today, 4.0))


@pytest.mark.parametrize(
    ("changes", "loc", "message"),
    [
        ({"target_latency_ms": {"board": [5]}}, "target_latency_ms", "there is no device 'board'"),
        ({"target_latency_ms": {"cloud": [5]}}, "target_latency_ms", "known for the search space fairnas, not for"),
        ({"target_latency_ms": {"pixel": [0.01]}}, None, "cannot be met: the smallest architecture has"),
        ({"target_latency_ms": {"pixel": 5}}, "target_latency_ms", 'square brackets, e.g. {"pixel": [30, 20]}'),
        ({"device_latencies": {"pixel": [1]}}, "device_latencies", "JSON object in curly braces, e.g. {"),
        ({"device_latencies": {"pixel": {"base_ms": 1, "cells_ms": 5}}}, "device_latencies", "a list per cell"),
        ({"target_latency_ms": [5]}, "target_latency_ms", "must be a JSON object in curly braces"),
        ({"target_latency_ms": {"pixel": [True]}}, "target_latency_ms", "valid number"),
        ({"target_latency_ms": {"pixel": ["fast"]}}, "target_latency_ms", "valid number"),
        ({"target_latency_ms": {"pixel": []}}, "target_latency_ms", "at least 1"),
        ({"target_latency_ms": {"p x": [5]}}, "target_latency_ms", "a device's name is 1 to 64 characters long"),
        ({"device_latencies": {"pixel": {"base_ms": 1, "cells_ms": [[1]]}}}, None, "sets no limit"),
        (
            {
                "target_latency_ms": {"mine": [5]},
                "device_latencies": {"mine": {"base_ms": True, "cells_ms": [[1, 2, 3]] * 8}},
            },
            "device_latencies",
            "must not be true",
        ),
    ],
)
def test_latency_limits_that_a_search_cannot_keep(client: TestClient, changes: Any, loc: str, message: str) -> None:
    register(client, "pixel", latencies(0))
    register(client, "cloud", latencies(0, preset("fairnas")), space="fairnas")
    response = submitted(client, **changes)
    assert response.status_code == 422, response.text
    error = response.json()["errors"][0]
    assert error["loc"][1:2] == ([] if loc is None else [loc])
    assert message in error["msg"]


def test_all_devices_that_are_not_there_are_told_with_what_else_is_wrong(client: TestClient) -> None:
    problem = submitted(client, target_latency_ms={"a": [5], "b": [5]}, target_madds=[1]).json()
    assert [error["loc"] for error in problem["errors"]] == [
        ["body", "target_latency_ms", "a"],
        ["body", "target_latency_ms", "b"],
        ["body"],
    ]
    assert "target_madds 1 cannot be met" in problem["errors"][2]["msg"]


def test_the_same_request_is_the_same_search_after_its_device_has_changed(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"dataset": "digits", "search_space": "nas-bench-macro", "target_latency_ms": {"pixel": [50]}}
    register(client, "pixel", latencies(0))
    first = client.post("/search", json=body, headers=key)
    register(client, "pixel", latencies(1))
    client.delete("/devices/pixel")
    again = client.post("/search", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]


def test_an_owners_device_goes_before_everybodys_of_the_same_name(keyed_client: TestClient, keys: Any) -> None:
    alice = keys.of("alice")
    register(keyed_client, "pixel", latencies(0), headers=alice)
    register(keyed_client, "pixel", latencies(1), headers=keys.of("root", "admin"))
    search = submitted(keyed_client, headers=alice, target_latency_ms={"pixel": [50]}).json()
    assert search["config"]["device_latencies"]["pixel"] == latencies(0).to_dict()


def test_another_owners_device_is_not_there_for_a_search(keyed_client: TestClient, keys: Any) -> None:
    mine, other = keys.of("alice"), keys.of("bob")
    register(keyed_client, "pixel", latencies(0), headers=mine)
    limits = {"pixel": [50]}
    assert submitted(keyed_client, headers=mine, target_latency_ms=limits).status_code == 202
    problem = submitted(keyed_client, headers=other, target_latency_ms=limits).json()
    assert "there is no device 'pixel' of yours; none is registered yet" in problem["detail"]
