"""The figures that the atlas draws: its picture of a table, the band, the front, and what limits leave of them."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.services.atlas import ACCURACY_BINS, COST_BINS, MAX_BAND_ROWS
from tests.integration.conftest import SearchFactory, StoredSearch


@pytest.fixture
def stored(factory: SearchFactory) -> StoredSearch:
    return factory.search()


class TestDensity:
    def density(self, client: TestClient, stored: StoredSearch) -> dict[str, Any]:
        response = client.get(f"/ui/searches/{stored.id}/rounds/0/density.json")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    @pytest.mark.parametrize("space", ["nas-bench-macro", "fairnas"])
    def test_is_the_histogram_of_the_whole_table(self, client: TestClient, factory: SearchFactory, space: str) -> None:
        stored = factory.search(space=space)
        table, found = stored.tables[0], self.density(client, stored)
        x0, x1 = table.multi_adds.min(), table.multi_adds.max()
        y0, y1 = map(float, (table.predicted_accuracy.min(), table.predicted_accuracy.max()))
        expected, _, _ = np.histogram2d(
            table.multi_adds,
            table.predicted_accuracy.astype(float),
            bins=(COST_BINS, ACCURACY_BINS),
            range=((x0, x1), (y0, y1)),
        )
        counted = np.zeros_like(expected)
        for cost_bin, accuracy_bin, num_rows, *_ in found["cells"]:
            counted[cost_bin, accuracy_bin] = num_rows
        assert counted.sum() == table.num_rows
        # a value on the edge of two bins may be counted in either
        assert np.abs(counted - expected).sum() <= 0.01 * table.num_rows

    def test_the_band_holds_every_row_that_none_beats(self, client: TestClient, stored: StoredSearch) -> None:
        table, found = stored.tables[0], self.density(client, stored)
        band = table.band()
        front = {row[0] for row in found["band"][: found["num_front"]]}
        assert front == set(np.flatnonzero(band == 0).tolist())
        assert len(found["band"]) == min(MAX_BAND_ROWS, int((band >= 0).sum()))
        for index, accuracy, multi_adds, params, beaten_by in found["band"][:50]:
            assert (multi_adds, params, beaten_by) == (table.multi_adds[index], table.params[index], band[index])
            assert accuracy == pytest.approx(float(table.predicted_accuracy[index]), abs=1e-6)

    def test_a_dot_leads_to_its_architecture(self, client: TestClient, stored: StoredSearch) -> None:
        index = int(stored.tables[0].order[3])
        path = f"/ui/searches/{stored.id}/rounds/0/rows/"
        response = client.get(f"{path}{index}", follow_redirects=False)
        code = stored.tables[0].subspace.codes([index])[0]
        assert response.headers["location"] == f"/ui/searches/{stored.id}/architectures/{code}"
        assert client.get(f"{path}{10**9}").status_code == 404

    def test_how_many_are_within_limits(self, client: TestClient, stored: StoredSearch) -> None:
        table = stored.tables[0]
        madds, params = float(np.median(table.multi_adds)) / 1e6, float(np.median(table.params)) / 1e6
        found = client.get(
            f"/ui/searches/{stored.id}/rounds/0/within.json", params={"max_madds": madds, "max_params": params}
        ).json()
        within = (table.multi_adds <= int(madds * 1e6)) & (table.params <= int(params * 1e6))
        assert found == {
            "within": int(within.sum()),
            "num_rows": table.num_rows,
            "front": None,
            "band": None,
            "cells": None,
        }

    def test_what_is_within_a_latency_and_the_front_there(self, client: TestClient, stored: StoredSearch) -> None:
        table = stored.tables[0]
        cells_ms = np.random.default_rng(0).random((8, 3))
        body = {"search_space": "nas-bench-macro", "base_ms": 0.5, "cells_ms": cells_ms.tolist()}
        client.put("/devices/phone", json=body)
        choices_NL = table.subspace.architectures(np.arange(table.num_rows))
        latency_N = 0.5 + cells_ms[np.arange(8), choices_NL].sum(axis=1)
        limit, madds = float(np.quantile(latency_N, 0.3)), float(np.quantile(table.multi_adds, 0.6)) / 1e6
        found = client.get(
            f"/ui/searches/{stored.id}/rounds/0/within.json",
            params={"device": "phone", "max_latency_ms": limit, "max_madds": madds},
        ).json()
        within = (latency_N <= limit) & (table.multi_adds <= int(madds * 1e6))
        assert 0 < found["within"] == int(within.sum()) < table.num_rows
        best, front = -1.0, []
        for index in sorted(
            np.flatnonzero(within), key=lambda i: (table.multi_adds[i], -table.predicted_accuracy[i], i)
        ):
            if table.predicted_accuracy[index] > best:
                best = table.predicted_accuracy[index]
                front.append(int(index))
        assert [row[0] for row in found["front"]] == front
        band = [row[0] for row in self.density(client, stored)["band"]]
        assert found["band"] == [index for index in band if within[index]]

    def test_cells_without_a_row_within_a_latency_are_told(self, client: TestClient, stored: StoredSearch) -> None:
        table, picture = stored.tables[0], self.density(client, stored)
        cells_ms = np.random.default_rng(0).random((8, 3))
        body = {"search_space": "nas-bench-macro", "base_ms": 0.5, "cells_ms": cells_ms.tolist()}
        client.put("/devices/phone", json=body)
        path = f"/ui/searches/{stored.id}/rounds/0/within.json"

        def cells(max_ms: float, **limits: float) -> list[int]:
            found: list[int] = client.get(path, params={"device": "phone", "max_latency_ms": max_ms, **limits}).json()[
                "cells"
            ]
            return found

        assert all(0 <= y < ACCURACY_BINS for _, y, *_ in picture["cells"])
        assert cells(100) == list(range(len(picture["cells"])))
        choices_NL = table.subspace.architectures(np.arange(table.num_rows))
        latency_N = 0.5 + cells_ms[np.arange(8), choices_NL].sum(axis=1)
        limit = float(np.quantile(latency_N, 0.02))
        x0, x1 = picture["min_multi_adds"], picture["max_multi_adds"]
        y0, y1 = picture["min_accuracy"], picture["max_accuracy"]
        counts, _, _ = np.histogram2d(
            table.multi_adds[latency_N <= limit],
            table.predicted_accuracy[latency_N <= limit].astype(float),
            bins=(COST_BINS, ACCURACY_BINS),
            range=((x0, x1), (y0, y1)),
        )
        expected = {place for place, (x, y, *_) in enumerate(picture["cells"]) if counts[x, y]}
        # a value on the edge of two bins may be counted in either
        assert len(expected ^ set(cells(limit))) <= 0.02 * len(expected)
        # whose limit is a line in the picture
        assert cells(limit, max_madds=0.001) == cells(limit)

    def test_nothing_is_within_a_latency_that_none_meets(self, client: TestClient, stored: StoredSearch) -> None:
        body = {"search_space": "nas-bench-macro", "base_ms": 0.5, "cells_ms": [[1.0, 1.0, 1.0]] * 8}
        client.put("/devices/phone", json=body)
        path = f"/ui/searches/{stored.id}/rounds/0/within.json"
        found = client.get(path, params={"device": "phone", "max_latency_ms": 1}).json()
        assert (found["within"], found["front"], found["band"], found["cells"]) == (0, [], [], [])
        assert client.get(path, params={"device": "watch", "max_latency_ms": 1}).status_code == 404
        assert client.get(path, params={"max_latency_ms": 1}).status_code == 422
