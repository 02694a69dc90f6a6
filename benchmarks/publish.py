"""Publishing a lookup table: from predictions to committed, indexed, banded and vacuumed rows that answer.

The time ends with the answer to a question under a limit on a device's latency, which is no column of the database: it
is added up for all rows when it is first asked for (``app.domain.ranked_table``).

    python -m benchmarks.publish        6^6 rows; FULL=1 in the environment: the paper's 6^7 = 279,936

The database is an embedded one as ``make serve`` starts it, with every commit on disk. Each table is read back and
compared. The last line of the output is one JSON object.
"""

import json
import os
import statistics
import time
import urllib.request
from urllib.parse import urlencode

import numpy as np
from sqlalchemy import Engine, select

from app.db.engine import transaction
from app.db.models import LookupRow
from app.domain.lookup_table import LookupTable
from benchmarks._service import (
    first_cells,
    publish,
    realistic_predictions,
    register_device,
    service,
    store_search,
)

REPEATS = 5
DEVICE = "target"


def main() -> None:
    """Measure, check, and print the figures."""
    full = os.environ.get("FULL") == "1"
    subspace = first_cells(7 if full else 6)
    band_s, publish_s, band_share = [], [], []
    with service() as running:
        device = register_device(running.url, subspace.space, DEVICE)
        latency_N = subspace.sums(device.function)
        max_ms = float(np.quantile(latency_N, 0.3))
        for repeat in range(REPEATS + 1):
            search_id = store_search(running.engine, subspace.space, subspace)
            predicted_N = realistic_predictions(subspace, repeat)
            started = time.perf_counter()
            table = LookupTable.from_predictions(subspace, predicted_N)
            table_id = publish(running.engine, search_id, table)
            query = {"search_id": search_id, "device": DEVICE, "max_latency_ms": repr(max_ms)}
            with urllib.request.urlopen(f"{running.url}/lookup?{urlencode(query)}") as response:  # noqa: S310
                answer = json.load(response)
            seconds = time.perf_counter() - started
            expected = [row for row in table.order.tolist() if latency_N[row] <= max_ms][:10]
            if [item["code"] for item in answer["items"]] != subspace.codes(expected):
                raise SystemExit("the answer under a latency is not that of a scan: no time is reported")
            started = time.perf_counter()
            band_N = LookupTable.from_predictions(subspace, predicted_N).band()
            band_seconds = time.perf_counter() - started
            check(running.engine, table_id, table)
            print(f"{subspace.size:,} rows published in {seconds:.2f} s, of which the band {band_seconds:.2f} s")
            if repeat:
                publish_s.append(seconds)
                band_s.append(band_seconds)
                band_share.append(float((band_N >= 0).mean()))
    print(
        json.dumps(
            {
                "publish_s": round(statistics.median(publish_s), 3),
                "band_s": round(statistics.median(band_s), 3),
                "band_share": round(statistics.median(band_share), 4),
                "num_rows": subspace.size,
                "repeats": REPEATS,
                "full": full,
            }
        )
    )


def check(engine: Engine, table_id: int, table: LookupTable) -> None:
    """Compare the stored rows with the table that was published."""
    columns = (LookupRow.predicted_accuracy, LookupRow.multi_adds, LookupRow.params, LookupRow.band)
    with transaction(engine) as session:
        rows = session.execute(
            select(*columns).where(LookupRow.table_id == table_id).order_by(LookupRow.subspace_index)
        ).all()
    predicted, multi_adds, params, band = zip(*rows, strict=True)
    same = (
        np.array_equal(np.array(predicted, dtype=np.float32), table.predicted_accuracy)
        and np.array_equal(multi_adds, table.multi_adds)
        and np.array_equal(params, table.params)
        and np.array_equal([-1 if b is None else b for b in band], table.band())
    )
    if not same:
        raise SystemExit("the stored rows are not those of the table: no time is reported")


if __name__ == "__main__":
    main()
