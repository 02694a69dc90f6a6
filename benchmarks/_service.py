"""The service's servers for the benchmarks that need them: real ones on a directory that is thrown away."""

import json
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, insert

from app.db import tables
from app.db.engine import get_engine, transaction
from app.db.models import PairRow, RoundRow, SearchRow
from app.domain.latency import LatencyTable
from app.domain.lookup_table import LookupTable
from app.domain.multi_adds import cell_costs, fixed_cost
from app.domain.prediction_interval import calibrate_interval
from app.domain.search_config import from_preset
from app.domain.search_space import SearchSpace, preset
from app.domain.seeds import generator
from app.domain.subspace import Subspace
from app.embedded.stack import Stack

SEED = 0
NUM_PAIRS = 2000
"""Evaluated architectures of a stored search, as many as the paper samples in a round."""
NUM_HELD_OUT = 200
"""Those of them that the fit has not seen."""


@dataclass(frozen=True)
class Service:
    """PostgreSQL, Valkey and the API, without workers.

    Attributes:
        url: Where the API answers.
        engine: The database.
    """

    url: str
    engine: Engine


@contextmanager
def service() -> Iterator[Service]:
    """Start the embedded stack with an empty database as ``make serve`` does; it is durable like any other."""
    with tempfile.TemporaryDirectory(prefix="nasatlas-bench-") as directory:
        # neither another database's rows nor its load belong into the figures
        stack = Stack(Path(directory) / "state", with_workers=False)
        with stack:
            engine = get_engine(stack.running.database_url)
            try:
                yield Service(stack.url, engine)
            finally:
                engine.dispose()


def first_cells(num_active: int) -> Subspace:
    """Return the subspace of the paper's space in which the first ``num_active`` cells vary: 6^num_active nodes."""
    space = preset("fairnas")
    return Subspace(space, (3,) * space.num_cells, tuple(range(num_active)))


def realistic_predictions(subspace: Subspace, seed: int) -> NDArray[np.float32]:
    """Return predictions that grow with cost and saturate, each choice with a value of its own, and with noise.

    Much like a fitted predictor's: strongly, but not fully, determined by what the architecture costs.
    """
    rng = generator(SEED, seed, "predictions")
    value_N = np.zeros(1)
    for size in subspace.factor_sizes:
        value_N = np.add.outer(value_N, np.linspace(0, 1, size) + rng.normal(0, 0.25, size)).ravel()
    standard_N = (value_N - value_N.mean()) / value_N.std()
    noisy_N = 0.7 + 0.05 * np.tanh(standard_N / 2) + rng.normal(0, 0.004, subspace.size)
    predicted_N: NDArray[np.float32] = noisy_N.astype(np.float32)
    return predicted_N


def register_device(url: str, space: SearchSpace, name: str) -> LatencyTable:
    """Register a device with random latencies that grow with the choices' multi-adds, and return them."""
    rng = generator(SEED, None, f"device {name}")
    cells_ms = [[c.multi_adds / 2e7 * rng.uniform(0.5, 1.5) for c in cell] for cell in cell_costs(space)]
    table = LatencyTable(fixed_cost(space).multi_adds / 2e7, tuple(map(tuple, cells_ms)))
    body = json.dumps({"search_space": space.name, **table.to_dict()}).encode()
    request = urllib.request.Request(f"{url}/devices/{name}", data=body, method="PUT")  # noqa: S310 - our own server
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request).close()  # noqa: S310
    return table


def store_search(engine: Engine, space: SearchSpace, subspace: Subspace) -> uuid.UUID:
    """Store a succeeded search of one round with its pairs, without its table, and return its id."""
    config = from_preset("quick", {"num_rounds": 1}).resolved(space)
    with transaction(engine) as session:
        row = SearchRow(
            state="succeeded",
            dataset="digits",
            preset="quick",
            search_space=space.model_dump(mode="json"),
            config=config.model_dump(mode="json"),
            num_rounds=1,
            request={},
            finished_at=func.clock_timestamp(),
        )
        session.add(row)
        session.flush()
        round_row = {"round_index": 0, "subspace": subspace.to_dict(), "held_out_tau": 0.7, "fit_report": _fit_report()}
        session.add(RoundRow(search_id=row.id, **round_row))
        session.flush()
        rng = generator(SEED, None, "pairs")
        evaluated = subspace.codes(rng.permutation(subspace.size)[:NUM_PAIRS])
        accuracies = rng.normal(0.7, 0.02, NUM_PAIRS).tolist()
        pair = {"search_id": row.id, "round_index": 0, "source": "sampled"}
        pairs = [
            {**pair, "code": code, "accuracy": accuracy, "held_out": number < NUM_HELD_OUT}
            for number, (code, accuracy) in enumerate(zip(evaluated, accuracies, strict=True))
        ]
        session.execute(insert(PairRow), pairs)
        return row.id


def _fit_report() -> dict[str, Any]:
    """What a worker leaves of a fit, so that answers say how sure they are as those of a real search do."""
    rng = generator(SEED, None, "fit report")
    predicted_N = rng.normal(0.7, 0.02, NUM_PAIRS)
    interval = calibrate_interval(predicted_N, predicted_N + rng.normal(0, 0.004, NUM_PAIRS))
    assert interval is not None, "there are enough pairs"
    figures = {"predictor": "auto", "num_held_out": NUM_HELD_OUT, "additive_tau": 0.68, "label_noise": 0.004}
    return {**figures, "interval": interval.to_dict()}


def publish(engine: Engine, search_id: uuid.UUID, table: LookupTable) -> int:
    """Publish a table as a worker does: committed, indexed, banded and vacuumed; return its id."""
    with transaction(engine) as session:
        table_id = tables.publish(session, search_id, 0, table)
    tables.vacuum(engine)
    return table_id
