"""Searches that run while everything under them is killed, stopped and filled, against the same searches left alone.

    python -m benchmarks.fault_soak        12 faults over 3 searches; FULL=1 in the environment: 60 faults over 10

First every search runs undisturbed, then again, all at once, on two workers, while at random moments one of the faults
below strikes. In the end every search must have succeeded with the same pairs, tables and model of the whole space,
byte for byte. A fault counts when it struck; one that finds nothing to strike at (no checkpoint being written, no
worker with a step) is drawn again. Each kind strikes once before any strikes twice. The artifact directory is filled
for real where a small file system can be mounted (root), otherwise that fault is left out and said so.

The last line of the output is one JSON object. ``duplicates`` are rows (steps, pairs, tables, models) that the same
search alone does not have. ``endings`` counts how attempts at steps ended by the workers' logs; ``fenced`` are those
that found their step in other hands, ``stale`` those that stored a result nevertheless. ``repeated_work_share`` is the
share of all claims of steps that did not end in a stored result; ``repeated_per_fault`` is at most about one per
running worker; ``repeated_s`` the seconds they took, at most.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sqlalchemy import Engine, create_engine, text

from app.cli.client import ApiClient
from app.cli.errors import UNREACHABLE, CommandError
from app.embedded.process_table import process_table
from app.embedded.services import ServicePlan, ServiceSpec, default_services
from app.embedded.stack import Stack
from benchmarks._faults import LEASE_S, UnderFire, strike
from benchmarks._step_log import StepLog

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
    union all
    select 'model', null::int, md5(model) from space_models where search_id = :id
    order by 1, 2, 3
"""
ROWS = """
    select 'steps', count(*) from steps where search_id = :id
    union all select 'pairs', count(*) from pairs where search_id = :id
    union all select 'tables', count(*) from lookup_tables where search_id = :id
    union all select 'rows', count(*)
        from lookup_tables t join lookup_rows r on r.table_id = t.id where t.search_id = :id
    union all select 'models', count(*) from space_models where search_id = :id
"""
FULL_ARTIFACTS = "fill the artifact directory"


@dataclass(frozen=True)
class Content:
    """What a search has left in the database.

    Attributes:
        results: All pairs, a digest of all rows of each table, and one of the model of the whole space.
        num_rows: How many rows it has, by what they are of.
    """

    results: list[tuple[Any, ...]]
    num_rows: dict[str, int]

    @classmethod
    def of(cls, engine: Engine, search_id: uuid.UUID) -> "Content":
        """Read it."""
        with engine.connect() as connection:
            results = [tuple(row) for row in connection.execute(text(CONTENT), {"id": search_id})]
            num_rows = {row[0]: int(row[1]) for row in connection.execute(text(ROWS), {"id": search_id})}
        return cls(results, num_rows)

    def num_more_than(self, other: "Content") -> int:
        """Return how many rows there are that another search with the same results does not have."""
        return sum(max(0, num_rows - other.num_rows[of]) for of, num_rows in self.num_rows.items())


def main() -> None:
    """Run undisturbed, run disturbed, compare, and print the figures."""
    full = os.environ.get("FULL") == "1"
    num_searches, num_faults = (10, 60) if full else (3, 12)
    print(json.dumps(soak(SEARCH, num_searches, num_faults) | {"full": full}))


def soak(search: dict[str, Any], num_searches: int, num_faults: int, seed: int = 0) -> dict[str, Any]:
    """Run searches on a stack of their own, undisturbed and then under fire, and return the figures.

    Args:
        search: The body of the request; each search gets a seed of its own.
        num_searches: How many of them at once.
        num_faults: How many faults strike at least; every kind that is possible here does.
        seed: Which faults, and when.
    """
    variables = {f"NASATLAS_{name}": str(value) for name, value in SETTINGS.items()} | {MARK: uuid.uuid4().hex}
    with patch.dict(os.environ, variables), tempfile.TemporaryDirectory(prefix="nasatlas-soak-") as directory:
        with artifact_directory(directory) as (artifacts, is_small):
            state_dir = Path(directory) / "state"
            with Stack(state_dir, services=two_workers, artifact_url=f"file://{artifacts}", on_phase=print) as stack:
                under_fire = UnderFire(stack, artifacts, np.random.default_rng(seed))
                if not is_small:
                    under_fire.faults.remove(FULL_ARTIFACTS)
                figures = run(under_fire, search, num_searches, num_faults)
        orphans = left_over(directory)
    return figures | {"orphans": len(orphans)}


def two_workers(plan: ServicePlan) -> Sequence[ServiceSpec]:
    """Return the services with a second worker: one that is stopped must not stop the searches."""
    services = default_services(plan)
    (worker,) = [spec for spec in services if spec.name == "worker"]
    return (*services, replace(worker, name="worker-2", command=(*worker.command, "--hostname", "second@%h")))


@contextlib.contextmanager
def artifact_directory(directory: str) -> Iterator[tuple[Path, bool]]:
    """Make a directory for artifacts, and say whether it is a small file system of its own: where that is allowed."""
    artifacts = Path(directory) / "artifacts"
    artifacts.mkdir()
    options = f"size={ARTIFACT_BYTES},mode=777"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", artifacts], capture_output=True, check=False
    )
    if mounted.returncode:
        print("no small file system can be mounted here: the artifact directory is not filled")
    try:
        yield artifacts, not mounted.returncode
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "-l", artifacts], check=True)


def run(soak: UnderFire, search: dict[str, Any], num_searches: int, num_faults: int) -> dict[str, Any]:
    """Run the searches undisturbed and disturbed until enough faults have struck; return the figures."""
    engine = create_engine(soak.stack.running.database_url, pool_pre_ping=True)
    started = time.monotonic()
    bodies = {seed: search | {"seed": seed} for seed in range(num_searches)}
    expected = {seed: Content.of(engine, search_id) for seed, search_id in submit_all(soak, bodies).items()}
    undisturbed_s = time.monotonic() - started
    print(f"{num_searches} searches undisturbed: {undisturbed_s:.0f} s", flush=True)
    ends: Counter[str] = Counter()
    different = duplicates = num_disturbed = 0
    before = claims(engine)
    while soak.lacks(num_faults):
        for seed, search_id in submit_all(soak, bodies, num_faults).items():
            found = Content.of(engine, search_id)
            ends[state(engine, search_id)] += 1
            different += found.results != expected[seed].results
            duplicates += found.num_more_than(expected[seed])
            num_disturbed += 1
        print(f"{soak.struck.total()} faults so far: {dict(soak.struck)}", flush=True)
    num_claims, num_results = (after - earlier for after, earlier in zip(claims(engine), before, strict=True))
    repeated = num_claims - num_results
    figures = {
        "faults": soak.struck.total(),
        "by_kind": dict(soak.struck),
        "searches": num_disturbed,
        "lost": num_disturbed - ends["succeeded"],
        "different": different,
        "duplicates": duplicates,
        **of_attempts(engine, soak.stack.state_dir / "logs"),
        "repeated_claims": repeated,
        "repeated_per_fault": round(repeated / soak.struck.total(), 2),
        "repeated_work_share": round(repeated / num_claims, 3),
        "undisturbed_s": round(undisturbed_s, 1),
    }
    engine.dispose()
    return figures


def of_attempts(engine: Engine, logs: Path) -> dict[str, Any]:
    """Return the figures that only the workers' logs know."""
    with engine.connect() as connection:
        last_attempts = {row[0]: row[1] for row in connection.execute(text("select id, attempt from steps"))}
    attempts = StepLog.read(logs)
    endings = attempts.endings()
    return {
        "endings": dict(endings),
        "fenced": endings["fenced off"],
        "stale": attempts.stored_by_earlier_attempts(last_attempts),
        "repeated_s": round(attempts.repeated_s(), 1),
    }


def submit_all(
    soak: UnderFire, bodies: dict[int, dict[str, Any]], num_faults: int | None = None
) -> dict[int, uuid.UUID]:
    """Submit the searches and wait for all of them; strike meanwhile until there were enough faults, if any."""
    submitted = {seed: uuid.UUID(ask(soak, "POST", "/search", body)["id"]) for seed, body in bodies.items()}
    deadline = time.monotonic() + TIMEOUT_S
    open_searches = set(submitted.values())
    while open_searches:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(open_searches)} searches have not ended after {TIMEOUT_S:g} s")
        if num_faults is not None and soak.lacks(num_faults):
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
