"""Lookups at the API: latency with one client, throughput with eight connections, answers against brute force.

    python -m benchmarks.lookup         4 tables of 6^6 rows; FULL=1 in the environment: 100 tables of 6^7 (28M rows)

API and PostgreSQL are those of ``make serve``, on the same cores as the client. Each query names one of the tables and
limits on multi-adds, parameters or both that leave from one row to all of them, log-uniformly. Every answer to the one
client is compared with a scan of the whole table. Throughput is ``wrk``'s. The last line is one JSON object.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from app.db.tables import vacuum
from app.domain.lookup_table import Limits, LookupTable
from app.domain.seeds import generator
from benchmarks._service import (
    SEED,
    first_cells,
    publish,
    realistic_predictions,
    register_device,
    service,
    store_search,
)

CONNECTIONS = 8
MILLION = 1_000_000
PAGE_SIZES = (1, 10, 10, 10, 100)
"""``limit`` of the queries; 10 is the API's default."""


@dataclass(frozen=True)
class Query:
    """A question to the API with the table that it is about."""

    table: LookupTable
    limits: Limits
    path: str
    num_rows: int


def main() -> None:
    """Store the tables, ask, compare, and print the figures."""
    full = os.environ.get("FULL") == "1"
    num_tables, num_active, num_queries, wrk_s = (100, 7, 2000, 15) if full else (4, 6, 200, 3)
    subspace = first_cells(num_active)
    with service() as running:
        stored: list[tuple[uuid.UUID, LookupTable]] = []
        started = time.perf_counter()
        for number in range(num_tables):
            table = LookupTable.from_predictions(subspace, realistic_predictions(subspace, number))
            search_id = store_search(running.engine, subspace.space, subspace)
            publish(running.engine, search_id, table)
            stored.append((search_id, table))
            print(f"\r{number + 1} of {num_tables} tables stored", end="", flush=True)
        vacuum(running.engine)
        print(f", {num_tables * subspace.size:,} rows in {time.perf_counter() - started:.0f} s", flush=True)
        queries = [random_query(stored, number) for number in range(num_queries)]
        figures = one_client(running.url, queries) | throughput(running.url, queries, wrk_s)
        figures |= under_latency(running.url, stored, num_queries // 4)
    print(json.dumps(figures | {"num_tables": num_tables, "num_rows": num_tables * subspace.size, "full": full}))


def random_query(stored: list[tuple[uuid.UUID, LookupTable]], number: int) -> Query:
    """Return a query whose limits leave between one row and all rows of a random table."""
    rng = generator(SEED, number, "query")
    search_id, table = stored[rng.integers(len(stored))]
    limits: dict[str, int] = {}
    for name, cost_N in (("max_multi_adds", table.multi_adds), ("max_params", table.params)):
        if rng.random() < 0.7:
            num_left = int(np.exp(rng.uniform(0, np.log(table.num_rows))))
            limits[name] = int(np.partition(cost_N, num_left - 1)[num_left - 1])
    num_rows = int(rng.choice(PAGE_SIZES))
    asked: dict[str, Any] = {"search_id": search_id, "limit": num_rows}
    for name, parameter in (("max_multi_adds", "max_madds"), ("max_params", "max_params")):
        if name in limits:
            asked[parameter] = limits[name] / MILLION
    return Query(table, Limits(**limits), f"/lookup?{urlencode(asked)}", num_rows)


def one_client(url: str, queries: list[Query]) -> dict[str, float | int]:
    """Ask one query after the other on one connection; the answers are checked after the clock has stopped."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    seconds, wrong, errors, empty = [], 0, 0, 0
    for query in queries[:50]:
        ask(connection, query.path)
    for query in queries:
        started = time.perf_counter()
        status, body = ask(connection, query.path)
        seconds.append(time.perf_counter() - started)
        errors += status != 200
        if status == 200:
            wrong += not is_exact(query, json.loads(body)["items"])
            empty += not json.loads(body)["items"]
    connection.close()
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    print(f"{len(queries)} queries: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {wrong} wrong, {errors} errors, {empty} empty")
    return {
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "wrong": wrong,
        "errors": errors,
        "empty": empty,
        "queries": len(queries),
    }


def under_latency(url: str, stored: list[tuple[uuid.UUID, LookupTable]], num_queries: int) -> dict[str, float | int]:
    """Ask for tables under limits on a device's latency and multi-adds; each table was asked once before."""
    space = stored[0][1].subspace.space
    device = register_device(url, space, "target")
    latency_N = stored[0][1].subspace.sums(device.function)  # all tables are of one subspace
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for search_id, _ in stored:
        ask(connection, f"/lookup?{urlencode({'search_id': search_id, 'device': 'target'})}")
    seconds, wrong = [], 0
    for number in range(num_queries):
        rng = generator(SEED, number, "latency query")
        search_id, table = stored[rng.integers(len(stored))]
        max_ms, max_multi_adds = float(rng.choice(latency_N)), int(rng.choice(table.multi_adds))
        asked = {"search_id": search_id, "device": "target", "max_latency_ms": repr(max_ms)}
        started = time.perf_counter()
        _, body = ask(connection, f"/lookup?{urlencode(asked | {'max_madds': max_multi_adds / MILLION})}")
        seconds.append(time.perf_counter() - started)
        order = table.top(table.num_rows, Limits(max_multi_adds))
        best = order[latency_N[order] <= max_ms][:10]
        wrong += [item["code"] for item in json.loads(body)["items"]] != table.subspace.codes(best)
    connection.close()
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    print(f"{num_queries} queries under a latency: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {wrong} wrong")
    return {
        "latency_p50_ms": round(float(p50), 2),
        "latency_p99_ms": round(float(p99), 2),
        "latency_wrong": wrong,
    }


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    """Send one query and read the whole answer."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def is_exact(query: Query, items: list[dict[str, Any]]) -> bool:
    """Whether an answer is what a scan of the whole table gives."""
    best = query.table.top(query.num_rows, query.limits)
    expected = zip(
        query.table.subspace.codes(best),
        query.table.predicted_accuracy[best].tolist(),
        query.table.multi_adds[best].tolist(),
        query.table.params[best].tolist(),
        strict=True,
    )
    found = ((i["code"], np.float32(i["predicted_accuracy"]), i["multi_adds"], i["params"]) for i in items)
    return list(found) == [(code, np.float32(accuracy), *costs) for code, accuracy, *costs in expected]


def throughput(url: str, queries: list[Query], duration_s: int) -> dict[str, float | int]:
    """Let wrk ask the queries in turn over eight connections; nothing where wrk is not installed."""
    if shutil.which("wrk") is None:
        print("wrk is not installed (Debian: apt-get install wrk): no requests_per_s")
        return {}
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "queries.lua"
        paths = ",\n".join(json.dumps(query.path) for query in queries)
        script.write_text(
            f"local paths = {{\n{paths}\n}}\nlocal number = 0\n"
            "request = function()\n  number = number % #paths + 1\n  return wrk.format('GET', paths[number])\nend\n"
        )
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{duration_s}s", "--latency", "-s", str(script), url]
        subprocess.run([*command[:3], "-d2s", *command[4:]], check=True, capture_output=True)
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(output.strip())
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate is not None, "wrk always prints its rate"
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(refused[1]) if refused else 0
    return {
        "requests_per_s": float(rate[1]),
        "wrk_errors": errors + (sum(map(int, broken.groups())) if broken else 0),
    }


if __name__ == "__main__":
    main()
