"""Many callers at once: searches queued, clients that poll them, and clients that follow their events.

    python -m benchmarks.capacity       100 searches, 40 clients, 5 followers; FULL=1: 1,000, 200 and 20

API and PostgreSQL are those of ``make serve``, without workers, on the same cores as the clients. The searches are
submitted through the API. Each client then reads one search after the other, a second apart, as a page or a script that
waits does; the followers hold their streams open all the time. A few of the searches are under way, as many as there
may be workers: with a finished round, pairs and a step whose lease is renewed every two seconds. The API puts such a
search together again after each heartbeat, while it answers for one that has not changed from memory.

``p50_ms`` and ``p99_ms`` are of all reads, ``cold_p99_ms`` of the first read of each search alone. The same with half
of the searches under way at once, hundreds of workers on the API's processes, is ``half_running_p99_ms``. The last line
of the output is one JSON object: ``errors`` are answers other than 200 and 202, and streams that end or do not bring
the search's state.
"""

import asyncio
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from sqlalchemy import Engine, select, update

from app.db import steps
from app.db.engine import transaction
from app.db.models import PairRow, RoundRow, SearchRow, StepRow
from app.db.steps import StepKey
from app.domain.rounds import first_subspace
from app.domain.search_config import SearchConfig
from app.domain.search_space import preset
from app.domain.seeds import generator
from benchmarks._service import SEED, service

SEARCH = {"dataset": "digits", "search_space": "fairnas", "preset": "quick"}
POLL_S = 1.0
HEARTBEAT_S, LEASE_S = 2.0, 30.0
"""The settings' defaults."""
NUM_PAIRS = 300
NUM_WORKERS = 8


@dataclass
class Measured:
    """What the clients saw.

    Attributes:
        submit_s: How long each submission took.
        read_s: How long each ``GET /search/{id}`` took.
        cold_s: How long the first one of each search took; they are among the former.
        heartbeats: Leases that were renewed meanwhile.
        events: Events that the followers got.
        errors: What went wrong.
    """

    submit_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    heartbeats: int = 0
    events: int = 0
    errors: list[str] = field(default_factory=list)


class Client:
    """One connection that stays open; HTTP/1.1 by hand, so that 200 clients leave the cores to the service."""

    def __init__(self, url: str) -> None:
        """Speak to a service."""
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Ask, and return the answer's status and body."""
        reader, writer = await self._open()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        header = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(header[9:12]), await reader.readexactly(int(length.split(b":")[1]))

    async def events(self, path: str) -> tuple[int, asyncio.StreamReader]:
        """Open a stream, and return its status and where it comes from."""
        reader, writer = await self._open()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        header = await reader.readuntil(b"\r\n\r\n")
        return int(header[9:12]), reader

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()


def main() -> None:
    """Submit, poll, follow, and print the figures."""
    full = os.environ.get("FULL") == "1"
    num_searches, num_clients, num_followers, duration_s = (1000, 200, 20, 30.0) if full else (100, 40, 5, 8.0)
    submitted, measured, crowded = Measured(), Measured(), Measured()
    with service() as running:
        search_ids = asyncio.run(submit(running.url, num_searches, submitted))
        for num_running, seen in ((NUM_WORKERS, measured), (num_searches // 2, crowded)):
            let_run(running.engine, num_running)
            with heartbeats(running.engine, seen):
                asyncio.run(ask(running.url, search_ids, num_clients, num_followers, duration_s, seen))
    all_errors = submitted.errors + measured.errors + crowded.errors
    p50, p99 = np.quantile(measured.read_s, [0.5, 0.99]) * 1000
    for error in all_errors[:10]:
        print(error)
    print(
        json.dumps(
            {
                "p50_ms": round(float(p50), 2),
                "p99_ms": round(float(p99), 2),
                "cold_p99_ms": round(float(np.quantile(measured.cold_s, 0.99)) * 1000, 2),
                "requests_per_s": round(len(measured.read_s) / duration_s, 1),
                "half_running_p99_ms": round(float(np.quantile(crowded.read_s, 0.99)) * 1000, 2),
                "errors": len(all_errors),
                "reads": len(measured.read_s),
                "heartbeats": measured.heartbeats,
                "events": measured.events,
                "submissions_per_s": round(num_searches / sum(submitted.submit_s), 1),
                "searches": num_searches,
                "clients": num_clients,
                "followers": num_followers,
                "full": full,
            }
        )
    )


async def submit(url: str, num_searches: int, measured: Measured) -> list[str]:
    """Submit searches one after the other, and return their ids."""
    client, search_ids = Client(url), []
    for seed in range(num_searches):
        started = time.perf_counter()
        status, body = await client.request("POST", "/search", json.dumps(SEARCH | {"seed": seed}).encode())
        measured.submit_s.append(time.perf_counter() - started)
        if status != 202:
            measured.errors.append(f"submission: {status} {body[:200]!r}")
            continue
        search_ids.append(json.loads(body)["id"])
    client.close()
    return search_ids


def let_run(engine: Engine, num_running: int) -> None:
    """Put so many searches under way: trained, with a round's pairs, and a step that is leased."""
    space = preset("fairnas")
    with transaction(engine) as session:
        every_other = session.scalars(select(SearchRow).order_by(SearchRow.created_at)).all()[::2]
        rows = [row for row in every_other[:num_running] if row.state == "queued"]
        for number, row in enumerate(rows):
            subspace = first_subspace(space, SearchConfig.model_validate(row.config))
            session.add(RoundRow(search_id=row.id, round_index=0, subspace=subspace.to_dict()))
            session.add(StepRow(search_id=row.id, round_index=0, kind="fit_gcn", state="leased", progress=0.4))
            index_N = generator(SEED, number, "pairs").permutation(subspace.size)[:NUM_PAIRS]
            session.add_all(
                PairRow(search_id=row.id, round_index=0, source="sampled", code=code, accuracy=0.5)
                for code in subspace.codes(index_N)
            )
        running = [row.id for row in rows]
        session.execute(update(SearchRow).where(SearchRow.id.in_(running)).values(state="running"))
        done = update(StepRow).where(StepRow.search_id.in_(running), StepRow.kind == "train_supernet")
        session.execute(done.values(state="done", progress=1.0))


@contextmanager
def heartbeats(engine: Engine, measured: Measured) -> Iterator[None]:
    """Renew all leases in turn as their workers would, each every ``HEARTBEAT_S``, in a thread of its own."""
    with transaction(engine) as session:
        leased = session.scalars(select(StepRow.id).where(StepRow.state == "leased").order_by(StepRow.id)).all()
    stopped = threading.Event()

    def beat() -> None:
        for number in itertools.count():
            if stopped.wait(HEARTBEAT_S / len(leased)):
                return
            key = StepKey(leased[number % len(leased)], 0)
            progress = min(1.0, 0.4 + 0.001 * (number // len(leased)))
            with transaction(engine) as session:
                steps.heartbeat(session, key, progress=progress, detail=None, lease_s=LEASE_S)
            measured.heartbeats += 1

    thread = threading.Thread(target=beat, name="heartbeats")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


async def ask(
    url: str, search_ids: list[str], num_clients: int, num_followers: int, duration_s: float, measured: Measured
) -> None:
    """Poll and follow for a while."""
    stop = asyncio.Event()
    followers = [asyncio.create_task(follow(url, search_ids[i], stop, measured)) for i in range(num_followers)]
    clients = [asyncio.create_task(poll(url, search_ids, i, num_clients, stop, measured)) for i in range(num_clients)]
    await asyncio.sleep(duration_s)
    stop.set()
    await asyncio.gather(*clients, *followers)


async def poll(
    url: str, search_ids: list[str], number: int, num_clients: int, stop: asyncio.Event, measured: Measured
) -> None:
    """Read one search after the other, a second apart."""
    client = Client(url)
    await asyncio.sleep(POLL_S * number / num_clients)
    position = number
    while not stop.is_set():
        started = time.perf_counter()
        status, body = await client.request("GET", f"/search/{search_ids[position % len(search_ids)]}")
        measured.read_s.append(time.perf_counter() - started)
        if position < len(search_ids):
            measured.cold_s.append(measured.read_s[-1])
        if status != 200:
            measured.errors.append(f"read: {status} {body[:200]!r}")
        position += num_clients
        await asyncio.sleep(max(0.0, POLL_S - (time.perf_counter() - started)))
    client.close()


async def follow(url: str, search_id: str, stop: asyncio.Event, measured: Measured) -> None:
    """Hold a stream open and count its events."""
    client = Client(url)
    status, reader = await client.events(f"/search/{search_id}/events")
    if status != 200:
        measured.errors.append(f"events: {status}")
    stopped = asyncio.create_task(stop.wait())
    num_events = 0
    while not stop.is_set():
        line = asyncio.create_task(reader.readline())
        await asyncio.wait({line, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not line.done():
            line.cancel()
        elif not line.result():
            measured.errors.append(f"the events of {search_id} ended")
            break
        else:
            num_events += line.result().startswith(b"event: ")
    if not num_events:
        measured.errors.append(f"the events of {search_id} never brought its state")
    measured.events += num_events
    stopped.cancel()
    client.close()


if __name__ == "__main__":
    main()
