"""Searches that run while everything under them is killed, stopped and filled, against the same searches left alone.

    python -m benchmarks.fault_soak        12 faults over 3 searches; FULL=1 in the environment: 60 faults over 10

First every search runs undisturbed, then again, all at once, on two workers, while at random moments one of the faults
below strikes. In the end every search must have succeeded with the same pairs and tables, byte for byte. A fault counts
when it struck; one that finds nothing to strike at (no checkpoint being written) is drawn again. The artifact directory
is filled for real where a small file system can be mounted (root), otherwise that fault is left out and said so.

The last line of the output is one JSON object. ``repeated_work_share`` is the share of all claims of steps that did not
end in a stored result; ``repeated_per_fault`` is at most about one per running worker.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, create_engine, text

from app.cli.client import ApiClient
from app.cli.errors import UNREACHABLE, CommandError
from app.embedded.process_table import process_table
from app.embedded.services import ServicePlan, ServiceSpec, default_services
from app.embedded.stack import Stack
from benchmarks._faults import FAULTS, LEASE_S, UnderFire, strike

SETTINGS = {
    "LEASE_S": LEASE_S,
    "HEARTBEAT_S": 0.5,
    "REAP_S": 1.0,
    "REWAKE_S": 3.0,
    "SHARD_SIZE": 12,
    "MAX_ATTEMPTS": 30,
}
SEARCH: dict[str, Any] = {
    "dataset": "digits",
    "search_space": "nas-bench-macro",
    "segments": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "num_images": 400,
    "proxy_resolution": 16,
    "proxy_width": 0.25,
    "epochs": 8,
    "batch_size": 32,
    "num_sampled": 48,
    "num_calibration_images": 64,
    "gcn_hidden_sizes": [32, 32],
    "gcn_epochs": 200,
    "num_reevaluated": 16,
    "num_preserved": 4,
}
ARTIFACT_BYTES = 64 * 2**20
TIMEOUT_S = 1800.0
MARK = "NASATLAS_SOAK_MARK"

CONTENT = """
    select 'pair', round_index, source || code || accuracy || held_out from pairs where search_id = :id
    union all
    select 'row', t.round_index, md5(string_agg(concat_ws(' ', r.subspace_index, r.predicted_accuracy, r.multi_adds,
        r.params, r.band), ',' order by r.subspace_index)) || t.digest
    from lookup_tables t join lookup_rows r on r.table_id = t.id where t.search_id = :id group by t.id
    order by 1, 2, 3
"""
TWICE = """
    select count(*) from (
        select 1 from pairs group by search_id, round_index, source, code having count(*) > 1
        union all select 1 from steps group by search_id, round_index, kind, shard_index having count(*) > 1
    ) as twice
"""


def main() -> None:
    """Run undisturbed, run disturbed, compare, and print the figures."""
    full = os.environ.get("FULL") == "1"
    num_searches, num_faults = (10, 60) if full else (3, 12)
    os.environ |= {f"NASATLAS_{name}": str(value) for name, value in SETTINGS.items()} | {MARK: uuid.uuid4().hex}
    with tempfile.TemporaryDirectory(prefix="nasatlas-soak-") as directory, artifact_directory(directory) as artifacts:
        state_dir = Path(directory) / "state"
        with Stack(state_dir, services=two_workers, artifact_url=f"file://{artifacts}", on_phase=print) as stack:
            figures = run(UnderFire(stack, artifacts, np.random.default_rng(0)), num_searches, num_faults)
        figures["orphans"] = len(left_over(directory))
    print(json.dumps(figures | {"full": full}))


def two_workers(plan: ServicePlan) -> Sequence[ServiceSpec]:
    """Return the services with a second worker: one that is stopped must not stop the searches."""
    services = default_services(plan)
    (worker,) = [spec for spec in services if spec.name == "worker"]
    return (*services, replace(worker, name="worker-2", command=(*worker.command, "--hostname", "second@%h")))


@contextlib.contextmanager
def artifact_directory(directory: str) -> Iterator[Path]:
    """Make a directory for artifacts, on a small file system of its own where that is allowed."""
    artifacts = Path(directory) / "artifacts"
    artifacts.mkdir()
    options = f"size={ARTIFACT_BYTES},mode=777"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", artifacts], capture_output=True, check=False
    )
    if mounted.returncode:
        print("no small file system can be mounted here: the artifact directory is not filled")
        FAULTS.pop("fill the artifact directory")
    try:
        yield artifacts
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "-l", artifacts], check=True)


def run(soak: UnderFire, num_searches: int, num_faults: int) -> dict[str, Any]:
    """Run the searches undisturbed and disturbed until enough faults have struck; return the figures."""
    engine = create_engine(soak.stack.running.database_url, pool_pre_ping=True)
    started = time.monotonic()
    expected = {seed: content(engine, search_id) for seed, search_id in submit_all(soak, num_searches).items()}
    undisturbed_s = time.monotonic() - started
    print(f"{num_searches} searches undisturbed: {undisturbed_s:.0f} s", flush=True)
    ends: Counter[str] = Counter()
    different = num_disturbed = 0
    before = claims(engine)
    while soak.struck.total() < num_faults:
        for seed, search_id in submit_all(soak, num_searches, disturb=True).items():
            ends[state(engine, search_id)] += 1
            different += content(engine, search_id) != expected[seed]
            num_disturbed += 1
        print(f"{soak.struck.total()} faults so far: {dict(soak.struck)}", flush=True)
    num_claims, num_results = (after - earlier for after, earlier in zip(claims(engine), before, strict=True))
    with engine.connect() as connection:
        duplicates = connection.execute(text(TWICE)).scalar_one()
    engine.dispose()
    repeated = num_claims - num_results
    return {
        "faults": soak.struck.total(),
        "by_kind": dict(soak.struck),
        "searches": num_disturbed,
        "lost": num_disturbed - ends["succeeded"],
        "different": different,
        "duplicates": duplicates,
        "repeated_claims": repeated,
        "repeated_per_fault": round(repeated / soak.struck.total(), 2),
        "repeated_work_share": round(repeated / num_claims, 3),
        "undisturbed_s": round(undisturbed_s, 1),
    }


def submit_all(soak: UnderFire, num_searches: int, *, disturb: bool = False) -> dict[int, uuid.UUID]:
    """Submit the searches and wait for all of them; strike meanwhile, if asked."""
    submitted = {
        seed: uuid.UUID(ask(soak, "POST", "/search", SEARCH | {"seed": seed})["id"]) for seed in range(num_searches)
    }
    deadline = time.monotonic() + TIMEOUT_S
    open_searches = set(submitted.values())
    while open_searches:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(open_searches)} searches have not ended after {TIMEOUT_S:g} s")
        if disturb:
            time.sleep(soak.rng.uniform(0.5, 3.0))
            strike(soak)
        else:
            time.sleep(0.5)
        soak.keep_up()
        open_searches = {i for i in open_searches if ask(soak, "GET", f"/search/{i}")["state"] in ("queued", "running")}
    return submitted


def ask(soak: UnderFire, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Ask the API, again while it is just being started."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with ApiClient(soak.stack.url) as api:
                answer: dict[str, Any] = api.get(path) if method == "GET" else api.post(path, body)
                return answer
        except CommandError as error:
            if error.exit_code != UNREACHABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            soak.keep_up()


def content(engine: Engine, search_id: uuid.UUID) -> list[tuple[Any, ...]]:
    """Return all pairs of a search, and a digest of all rows of each of its tables."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(CONTENT), {"id": search_id})]


def state(engine: Engine, search_id: uuid.UUID) -> str:
    """Return the state of a search; of a failed one, say why."""
    with engine.connect() as connection:
        row = connection.execute(text("select state, error from searches where id = :id"), {"id": search_id}).one()
    if row.error:
        print(f"search {search_id} {row.state}: {row.error}", flush=True)
    return str(row.state)


def claims(engine: Engine) -> tuple[int, int]:
    """Return how many claims there were, and how many ended in a stored result."""
    with engine.connect() as connection:
        row = connection.execute(text("select sum(attempt), count(*) filter (where state = 'done') from steps")).one()
    return int(row[0] or 0), int(row[1])


def left_over(directory: str) -> list[int]:
    """Return processes that the soak has left: marked in their environment, or working in its directory."""
    time.sleep(1)
    found = []
    for entry in process_table():
        with contextlib.suppress(OSError):
            process = Path(f"/proc/{entry.pid}")
            marked = os.environ[MARK].encode() in (process / "environ").read_bytes()
            if entry.pid != os.getpid() and (marked or str((process / "cwd").readlink()).startswith(directory)):
                found.append(entry.pid)
    return found


if __name__ == "__main__":
    main()
