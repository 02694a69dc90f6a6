"""Growth: time and peak memory of evaluation, fit, prediction, publishing and lookup as subspaces and tables grow.

    python -m benchmarks.scaling        6^4 to 6^6 nodes, 1 and 4 tables
    FULL=1 python -m benchmarks.scaling        6^5 to 6^8 nodes, 1, 10 and 100 tables

Written to ``docs/benchmarks/scaling.json`` and ``.png``, the quick sizes to ``scaling-quick``.

Every figure is measured in a process of its own, whose peak memory (with torch and all, and with PostgreSQL and the API
where they take part) is given beside it.
Evaluation is also timed with one and with two workers of one thread each: ``speedup_two_workers``. The last line of the
output is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from app.domain.lookup_table import LookupTable
from app.domain.seeds import generator
from benchmarks import lookup
from benchmarks._growth_plot import Figure, draw
from benchmarks._peak_memory import PeakMemory
from benchmarks._service import first_cells, publish, realistic_predictions, service, store_search
from benchmarks._timing import median_seconds

OUTPUT_DIR = Path(__file__).parents[1] / "docs" / "benchmarks"
NUM_PAIRS = 1800
REPEATS = 5


@dataclass(frozen=True)
class Sizes:
    """What is measured: cells of the subspaces, numbers of tables, and the size of an evaluation."""

    num_active: tuple[int, ...]
    num_tables: tuple[int, ...]
    rows_of_tables: int
    num_architectures: int
    num_images: int
    num_shards: int

    @classmethod
    def of(cls, full: bool) -> "Sizes":
        """Return the sizes of the documentation's figures, or quick ones."""
        return cls((5, 6, 7, 8), (1, 10, 100), 7, 300, 64, 12) if full else cls((4, 5, 6), (1, 4), 5, 24, 32, 4)


def main() -> None:
    """Measure all parts, write them down, draw them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), help="measure one part; used for the peak memory")
    parser.add_argument("--size", type=int, default=0)
    arguments = parser.parse_args()
    full = os.environ.get("FULL") == "1"
    if arguments.part:
        print(json.dumps(alone(arguments.part, arguments.size, Sizes.of(full))))
        return
    figures = list(measure(Sizes.of(full)))
    seconds = {(f.part, f.size): f.seconds for f in figures}
    summary = {
        "speedup_two_workers": round(seconds["evaluate by workers", 1] / seconds["evaluate by workers", 2], 2),
        "full": full,
        "cpus": os.cpu_count(),
        "figures": [asdict(f) for f in figures],
    }
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    output = OUTPUT_DIR / ("scaling" if full else "scaling-quick")
    output.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(figures, output.with_suffix(".png"))
    print(json.dumps(summary))


def measure(sizes: Sizes) -> Iterable[Figure]:
    """Measure every part at every size, in processes of their own."""
    for part in ("evaluate", "fit epoch", "predict", "publish", "lookup"):
        for num_active in sizes.num_active:
            yield told(in_a_process(part, num_active, size=6**num_active))
    for num_tables in sizes.num_tables:
        yield told(in_a_process("lookup among tables", num_tables, size=num_tables))
    for num_workers in (1, 2):
        yield told(Figure("evaluate by workers", num_workers, evaluated_by(num_workers, sizes), None))


def told(figure: Figure) -> Figure:
    """Print a figure as it comes."""
    print(f"{figure.part}, {figure.size:,}: {figure.seconds:.4f} s, {figure.peak_mb} MB", flush=True)
    return figure


def in_a_process(part: str, argument: int, size: int) -> Figure:
    """Measure one part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--part", part, "--size", str(argument)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Figure(part, size, **json.loads(output.splitlines()[-1]))


def alone(part: str, size: int, sizes: Sizes) -> dict[str, float | int]:
    """Measure one part in this process."""
    with PeakMemory() as peak:
        seconds = PARTS[part](size, sizes)
    return {"seconds": round(seconds, 5), "peak_mb": peak.mb}


def evaluate(num_active: int, sizes: Sizes) -> float:
    """Evaluate architectures that differ in the first cells; how many there are does not grow with the subspace."""
    run = evaluation(num_active, sizes)
    return median_seconds(lambda: run(slice(None)), REPEATS)


def evaluation(num_active: int, sizes: Sizes) -> Callable[[slice], object]:
    """Return what evaluates some shards of a round's sorted architectures."""
    from benchmarks.evaluation import NUM_CLASSES, RESOLUTION, SEED, make_data, make_supernet
    from worker.nas.evaluation import predict_labels
    from worker.nas.sampling import sample_distinct

    subspace = first_cells(num_active)
    space = subspace.space.proxy(resolution=RESOLUTION, num_classes=NUM_CLASSES)
    space = space.model_copy(update={"stem": space.stem.model_copy(update={"stride": 1})})
    supernet, data = make_supernet(space), make_data(sizes.num_images, 0)
    rng = generator(SEED, num_active, "sampling")
    sampled = subspace.architectures(sample_distinct(subspace.size, sizes.num_architectures, rng))
    architectures = sorted(space.check(row) for row in sampled.tolist())
    bounds = np.linspace(0, len(architectures), sizes.num_shards + 1).round().astype(int).tolist()
    shards = [architectures[start:stop] for start, stop in pairwise(bounds)]

    def run(part: slice) -> None:
        for architectures_of_shard in shards[part]:
            predict_labels(supernet, architectures_of_shard, data, bn_statistics="running", device="cpu")

    return run


def fit_epoch(num_active: int, _sizes: Sizes) -> float:
    """Fit the paper's GCN to 1,800 pairs (fewer where the subspace has fewer nodes); seconds of one epoch."""
    from benchmarks.gcn import Case
    from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn

    case = Case.of(num_active, min(NUM_PAIRS, 6**num_active // 2))
    ends: list[float] = []
    fit_gcn(
        case.graph,
        case.features,
        case.index_N,
        case.accuracy_N,
        GCNTrainingConfig(epochs=20),
        seed=0,
        on_epoch=lambda _epoch, _loss: ends.append(time.perf_counter()),
    )
    return float(np.median(np.diff(ends[5:])))


def predict(num_active: int, _sizes: Sizes) -> float:
    """Predict the whole subspace with the paper's GCN."""
    import torch

    from benchmarks.gcn import Case
    from worker.nas.gcn import GCN
    from worker.nas.gcn_prediction import GCNFit, predict_subspace

    case = Case.of(num_active, 2)
    module = GCN(case.features.num_bits, generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    fit = GCNFit(module, case.graph, case.features, np.zeros(0), torch.device("cpu"))
    return median_seconds(lambda: predict_subspace(fit), REPEATS)


def publish_table(num_active: int, _sizes: Sizes) -> float:
    """Publish the whole subspace's table."""
    subspace = first_cells(num_active)
    predicted_N = realistic_predictions(subspace, 0)
    with service() as running:
        return median_seconds(
            lambda: publish(
                running.engine,
                store_search(running.engine, subspace.space, subspace),
                LookupTable.from_predictions(subspace, predicted_N),
            ),
            REPEATS,
        )


def look_up(num_active: int, _sizes: Sizes) -> float:
    """Ask one table of this size at the API; median seconds of a query."""
    return asked(num_active, 1)


def look_up_among(num_tables: int, sizes: Sizes) -> float:
    """Ask one of many tables at the API; median seconds of a query."""
    return asked(sizes.rows_of_tables, num_tables)


def asked(num_active: int, num_tables: int) -> float:
    """Store tables and return the median seconds of a query at the API; every answer is checked."""
    subspace = first_cells(num_active)
    with service() as running:
        stored: list[tuple[uuid.UUID, LookupTable]] = []
        for number in range(num_tables):
            table = LookupTable.from_predictions(subspace, realistic_predictions(subspace, number))
            stored.append((store_search(running.engine, subspace.space, subspace), table))
            publish(running.engine, stored[-1][0], table)
        figures = lookup.one_client(running.url, [lookup.random_query(stored, number) for number in range(300)])
    if figures["wrong"] or figures["errors"]:
        raise SystemExit(f"wrong answers or errors: {figures}; no time is reported")
    return figures["p50_ms"] / 1000


def work(sizes: Sizes) -> None:
    """Be one of the workers: get ready, say so, and evaluate the shards that are named, one after the other."""
    run = evaluation(7, sizes)
    run(slice(0, 1))
    print("ready", flush=True)
    for line in sys.stdin:
        run(slice(int(line), int(line) + 1))
        print("done", flush=True)


def evaluated_by(num_workers: int, sizes: Sizes) -> float:
    """Return the median seconds that workers of one thread each take for all shards together.

    Whoever has done one gets the next, as workers claim steps.
    """
    code = f"from benchmarks.scaling import *; work(Sizes.of({os.environ.get('FULL') == '1'}))"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(num_workers)
    ]
    try:
        for worker in workers:
            hear(worker, "ready")

        def all_shards() -> None:
            remaining = iter(range(sizes.num_shards))

            def feed(worker: "subprocess.Popen[str]") -> None:
                for shard in remaining:
                    assert worker.stdin is not None, "it is a pipe"
                    worker.stdin.write(f"{shard}\n")
                    worker.stdin.flush()
                    hear(worker, "done")

            with ThreadPoolExecutor(num_workers) as pool:
                list(pool.map(feed, workers))

        return median_seconds(all_shards, REPEATS)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def hear(worker: "subprocess.Popen[str]", word: str) -> None:
    """Wait until a worker has said a word."""
    assert worker.stdout is not None, "it is a pipe"
    if worker.stdout.readline().strip() != word:
        raise SystemExit("a worker of the benchmark has ended")


PARTS: dict[str, Callable[[int, Sizes], float]] = {
    "evaluate": evaluate,
    "fit epoch": fit_epoch,
    "predict": predict,
    "publish": publish_table,
    "lookup": look_up,
    "lookup among tables": look_up_among,
}

if __name__ == "__main__":
    main()
