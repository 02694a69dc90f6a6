"""Answers over the whole space: how long they take, and whether anything better exists.

    python -m benchmarks.space_lookup            quick: shorter fits, fewer limits, 2 x 128 hidden units
    python -m benchmarks.space_lookup --full     every fit to its end, 200 limits each (or FULL=1 in the environment)

Speed is that of one thread on the 19-cell FairNAS space under random limits on up to three costs. Truth is a scan of
every architecture of NAS-Bench-Macro's 3^8 and of 6^7: for the enumeration of an additive score (``wrong``), and for
the re-ranked answer under the full predictor, a blend with a GCN fitted by ``worker.nas.gcn_training``
(``max_gap_points``). Labels are the true accuracies of NAS-Bench-Macro with noise of 0.5 points, read under
``NASATLAS_DATA_ROOT`` (without it this part is skipped, and the last line says so), and synthetic accuracies with
strong pairwise interactions. On 6^19 there is no truth; ``space_19_gap_points`` compares the answers by the GCN alone,
the hardest blend, with a search of 60 steps over a larger archive. ``api_ms`` are whole requests to the API with
``scope=space``, by a model that :func:`worker.nas.space_fit.fit_space` fitted as for a search without true labels, with
limits on up to two devices' latencies beside those on multi-adds and parameters. ``answers_coverage_90`` and
``uniform_coverage_90`` say how often a new evaluation lies inside the 90 % interval of an answer for 250 to 557 million
multi-adds, and of a random architecture, after three made-up rounds around K3E6 with accuracies that saturate or not;
``uniform_tau`` is Kendall's against these. The last line of the output is one
JSON object.
"""

import argparse
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import numpy as np
import torch
from numpy.typing import NDArray

from app.db.engine import transaction
from app.db.models import SpaceModelRow
from app.domain.hamming_graph import HammingGraph
from app.domain.prediction_interval import PredictionInterval
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.seeds import generator
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import ArchiveConfig, prepared_model
from app.domain.whole_space.constrained_enumeration import ConstrainedEnumeration
from app.domain.whole_space.model import BlendedPredictor, Candidates, WholeSpaceModel
from app.domain.whole_space.model_bytes import from_bytes, to_bytes
from benchmarks._labelled_spaces import MadeUpSearch, Space, fitted, macro_labels, macro_path, synthetic_labels
from benchmarks._service import first_cells, register_device, service, store_search
from benchmarks.lookup import ask
from worker.nas.gcn_training import GCNTrainingConfig
from worker.nas.space_fit import fit_space

SEED = 0
NUM_ENUMERATED = 500
NUM_ASKED = 100
NUM_TIMED = 200
LARGE_ARCHIVE = ArchiveConfig(num_elites=20, num_predictions=600_000)
REFERENCE_STEPS = 60
NUM_CELLS = 19
DEVICES = ["phone", "board"]

Float64Array = NDArray[np.float64]
Limits = list[float | None]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        epochs: Of every GCN fit.
        seeds: Fits per kind of labels.
        num_limits: Random limits per fit and weight.
        num_pairs: Pairs of the model that the API has.
        gcn_weights: The weights w of the GCN in the blend.
        hidden_sizes: Of the GCN over 19 cells.
    """

    epochs: int
    seeds: int
    num_limits: int
    num_pairs: int
    gcn_weights: tuple[float, ...]
    hidden_sizes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, full: bool) -> "Sizes":
        """Return the issue's sizes, or quick ones."""
        if full:
            return cls(300, 2, 200, 2000, (0.0, 0.25, 0.5, 0.75, 1.0), ((128, 128), (512, 512)))
        return cls(100, 1, 50, 300, (0.0, 0.5, 1.0), ((128, 128),))


def random_limits(costs: Sequence[AdditiveFunction], num_limits: int, purpose: str) -> Iterator[Limits]:
    """Yield limits on one, two or three costs, from just feasible to loose; each can be met by itself."""
    rng = generator(SEED, None, purpose)
    for number in range(num_limits):
        limited = rng.permutation(len(costs))[: number % len(costs) + 1]
        share = rng.random(len(costs)) ** (1 + number % 2)
        yield [
            cost.minimum + float(share[i]) * (cost.maximum - cost.minimum) if i in limited else None
            for i, cost in enumerate(costs)
        ]


def main() -> None:
    """Measure, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    sizes = Sizes.of(full)
    figures: dict[str, object] = dict(enumeration_speed())
    figures |= at_the_api(sizes)
    figures["wrong"] = wrong_enumerations(sizes)
    figures |= gaps(sizes)
    figures |= far_from_the_pairs(sizes)
    for hidden_sizes in sizes.hidden_sizes:
        figures |= whole_space(sizes, hidden_sizes)
    print(json.dumps(figures | {"full": full, "num_limits": sizes.num_limits, "load_average": os.getloadavg()[0]}))


def enumeration_speed() -> dict[str, float]:
    """Time the 500 best of 6^19 under random limits; wall time, and the thread's own where others use the machine."""
    costs = tuple(Space("fairnas", 19).costs().values())
    enumeration = ConstrainedEnumeration(random_score((6,) * 19, "speed"), costs)
    enumeration.best([None] * len(costs), NUM_ENUMERATED)
    wall, own, unproven = [], [], 0
    for limits in random_limits(costs, NUM_TIMED, "speed"):
        started, own_started = time.perf_counter(), time.thread_time()
        answer = enumeration.best(limits, NUM_ENUMERATED)
        own.append(1000 * (time.thread_time() - own_started))
        wall.append(1000 * (time.perf_counter() - started))
        unproven += not answer.is_proven
    print(f"{NUM_ENUMERATED} best of 6^19: {statistics.median(wall):.1f} ms, {unproven} unproven", flush=True)
    return percentiles("enumerate_ms", wall) | percentiles("enumerate_cpu_ms", own) | {"unproven": unproven}


def at_the_api(sizes: Sizes) -> dict[str, float]:
    """Time whole requests to the API about 6^19 architectures, after one with each set of devices."""
    labels, space, subspace = synthetic_labels(NUM_CELLS, sizes.num_pairs, SEED), preset("fairnas"), first_cells(7)
    choices_NL = labels.space.graph.choices(labels.index_N)
    model, report = fit_space(space, choices_NL, labels.accuracy_N, GCNTrainingConfig(), SEED)
    milliseconds, wrong = [], 0
    with service() as running:
        with transaction(running.engine) as session:
            search_id = store_search(running.engine, space, subspace)
            session.add(SpaceModelRow(search_id=search_id, model=to_bytes(model), report=report))
        devices = {name: register_device(running.url, space, name).function for name in DEVICES}
        costs = {"max_madds": model.costs["multi_adds"], "max_params": model.costs["params"], **devices}
        connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
        for warming_up in ([], DEVICES[:1], DEVICES):
            ask(connection, f"/lookup?{urlencode({'scope': 'space', 'device': warming_up}, doseq=True)}")
        for limits in random_limits(tuple(costs.values()), NUM_TIMED, "api"):
            asked = [(cost, name, limit) for (name, cost), limit in zip(costs.items(), limits, strict=True) if limit]
            query: dict[str, object] = {"scope": "space", "search_id": search_id}
            query |= {name: limit / 1e6 for _, name, limit in asked if name not in devices}
            query["device"] = [name for _, name, _ in asked if name in devices]
            query["max_latency_ms"] = [repr(limit) for _, name, limit in asked if name in devices]
            started = time.perf_counter()
            status, body = ask(connection, f"/lookup?{urlencode(query, doseq=True)}")
            milliseconds.append(1000 * (time.perf_counter() - started))
            found = [space.parse_code(item["code"]) for item in json.loads(body)["items"]]
            wrong += status != 200 or any(bool((cost.of(found) > limit).any()) for cost, _, limit in asked if found)
        connection.close()
    print(f"requests to the API: {statistics.median(milliseconds):.1f} ms, {wrong} wrong", flush=True)
    return {**percentiles("api_ms", milliseconds), "api_ms_max": round(max(milliseconds), 2), "api_wrong": wrong}


def random_score(factor_sizes: Sequence[int], purpose: str) -> AdditiveFunction:
    """Return a score that grows with the kernel and the expansion, by cell-dependent and noisy amounts."""
    rng = generator(SEED, None, purpose)
    rise = [0.002 * (np.arange(n) % 3) + 0.006 * (np.arange(n) // 3) for n in factor_sizes]
    return AdditiveFunction(
        0.7, tuple(rng.uniform(0.3, 2) * table + rng.normal(0, 0.001, len(table)) for table in rise)
    )


def percentiles(name: str, milliseconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    return {
        f"{name}_p50": round(statistics.median(milliseconds), 2),
        f"{name}_p99": round(float(np.quantile(milliseconds, 0.99)), 2),
    }


def wrong_enumerations(sizes: Sizes) -> int:
    """Count answers that differ from a scan of 3^8 and of 6^7, in any architecture or its place."""
    wrong = 0
    for space in (Space("nas-bench-macro", 8), Space("fairnas", 7)):
        factor_sizes, costs = space.graph.factor_sizes, tuple(space.costs().values())
        score = random_score(factor_sizes, "wrong")
        enumeration = ConstrainedEnumeration(score, costs)
        score_N, cost_N = score.whole_space(), [cost.whole_space() for cost in costs]
        for limits in random_limits(costs, sizes.num_limits, "wrong"):
            within = np.flatnonzero(within_limits(cost_N, limits))
            scanned = within[np.argsort(-score_N[within], kind="stable")[:NUM_ENUMERATED]]
            found = space.graph.index(enumeration.best(limits, NUM_ENUMERATED).choices_NL.astype(np.int64))
            wrong += not np.array_equal(found, scanned)
        print(f"{space.name}: {wrong} wrong of {sizes.num_limits}", flush=True)
    return wrong


def within_limits(cost_N: Sequence[Float64Array], limits: Limits) -> NDArray[np.bool_]:
    """Tell which architectures of the whole space meet the limits."""
    met_N: NDArray[np.bool_] = np.ones(len(cost_N[0]), dtype=bool)
    for cost, limit in zip(cost_N, limits, strict=True):
        met_N &= cost <= (np.inf if limit is None else limit)
    return met_N


def gaps(sizes: Sizes) -> dict[str, object]:
    """Measure how far the re-ranked answers are from the optimum of the full predictor, in points."""
    labels = [synthetic_labels(7, n, seed) for n in (600, 1800) for seed in range(sizes.seeds)]
    path = macro_path()
    skipped = [] if path else ["NAS-Bench-Macro's accuracies: set NASATLAS_DATA_ROOT"]
    if path:
        labels += [macro_labels(path, n, seed) for n in (300, 1000) for seed in range(sizes.seeds)]
    gap_points: list[float] = []
    for one in labels:
        additive, gcn = fitted(one, (128, 128), sizes.epochs)
        for gcn_weight in sizes.gcn_weights:
            model = published(BlendedPredictor(additive, gcn, gcn_weight), one.space)
            measured = gaps_of(model, sizes.num_limits)
            gap_points += measured
            print(f"{one.name} seed {one.seed} w {gcn_weight}: largest gap {max(measured):.4f} points", flush=True)
    return {
        "max_gap_points": round(max(gap_points), 4),
        "mean_gap_points": round(statistics.mean(gap_points), 6),
        "num_gaps": len(gap_points),
        "skipped": skipped,
    }


def published(predictor: BlendedPredictor, space: Space) -> WholeSpaceModel:
    """Return the model as the API has it: prepared, stored and read again."""
    return from_bytes(to_bytes(prepared_model(predictor, space.costs(), SEED)))


def gaps_of(model: WholeSpaceModel, num_limits: int) -> list[float]:
    """Return, for every limit that can be met, the optimum by a scan minus the answer, in points."""
    graph = HammingGraph.assigned(model.predictor.factor_sizes)
    node_N = np.arange(graph.num_nodes, dtype=np.int64)
    predicted_N = np.concatenate([model.predictor.predict(graph.choices(part)) for part in np.array_split(node_N, 64)])
    costs = tuple(model.costs.values())
    cost_N = [cost.whole_space() for cost in costs]
    measured = []
    for limits in random_limits(costs, num_limits, "gaps"):
        met_N = within_limits(cost_N, limits)
        answer = model.best(named(model, limits), 10)
        if not met_N.any():
            assert not len(answer.predicted_N), "an answer under limits that nothing meets"
            continue
        assert within_limits([cost.of(answer.choices_NL) for cost in costs], limits).all(), "an answer above a limit"
        measured.append(100 * float(predicted_N[met_N].max() - answer.predicted_N[0]))
    return measured


def named(model: WholeSpaceModel, limits: Limits) -> dict[str, float]:
    """Return limits by the names of the costs."""
    return {name: limit for name, limit in zip(model.costs, limits, strict=True) if limit is not None}


def whole_space(sizes: Sizes, hidden_sizes: tuple[int, int]) -> dict[str, object]:
    """Time queries of 6^19 with a GCN, and compare them with a much longer search."""
    labels = synthetic_labels(NUM_CELLS, 2000, SEED)
    additive, gcn = fitted(labels, hidden_sizes, sizes.epochs // 2)
    predictor, costs = BlendedPredictor(additive, gcn, 1.0), labels.space.costs()
    started = time.perf_counter()
    model = prepared_model(predictor, costs, SEED)
    prepare_s = time.perf_counter() - started
    data = to_bytes(model)
    model = from_bytes(data)
    model.best({}, 1)
    longer = long_search(prepared_model(predictor, costs, SEED + 1, LARGE_ARCHIVE))
    wall, own, gap_points, num_over = [], [], [], 0
    for number, limits in enumerate(random_limits(tuple(costs.values()), NUM_TIMED, "queries")):
        asked = named(model, limits)
        started, own_started = time.perf_counter(), time.thread_time()
        answer = model.best(asked, NUM_ASKED)
        own.append(1000 * (time.thread_time() - own_started))
        wall.append(1000 * (time.perf_counter() - started))
        num_over += sum(int((answer.costs[name] > limit).sum()) for name, limit in asked.items())
        if number < sizes.num_limits and len(answer.predicted_N):
            gap_points.append(100 * (longer(limits) - float(answer.predicted_N[0])))
    suffix = "" if hidden_sizes == (128, 128) else f"_{hidden_sizes[0]}"
    print(f"queries of 6^19 with {hidden_sizes} units: {statistics.median(wall):.1f} ms", flush=True)
    return {
        **percentiles(f"query{suffix}_ms", wall),
        **percentiles(f"query{suffix}_cpu_ms", own),
        f"space_19{suffix}_gap_points_max": round(max(gap_points), 4),
        f"space_19{suffix}_gap_points_mean": round(statistics.mean(gap_points), 5),
        f"over_limit{suffix}": num_over,
        f"max_madds_unanswered{suffix}": unanswered(model),
        f"prepare{suffix}_s": round(prepare_s, 1),
        f"model{suffix}_bytes": len(data),
    }


def far_from_the_pairs(sizes: Sizes) -> dict[str, float]:
    """Measure how sure the model of three rounds rightly is of what they did not see."""
    found: dict[str, list[float]] = {}
    for made_up in (MadeUpSearch(ceiling, seed) for ceiling in (None, 0.75) for seed in range(2 * sizes.seeds)):
        model, report = fit_space(preset("fairnas"), *made_up.pairs(), GCNTrainingConfig(), made_up.seed)
        interval = PredictionInterval.from_dict(report["interval"])
        answers = [model.best({"multi_adds": 1e6 * madds}, 1).choices_NL for madds in range(250, 558)]
        uniform = generator(made_up.seed, None, "uniform").integers(0, 6, (1000, NUM_CELLS))
        measured = {}
        for name, choices_NL in (("answers", np.unique(np.concatenate(answers), axis=0)), ("uniform", uniform)):
            choices_NL = choices_NL.astype(np.int64)
            predicted_N, z_N = model.predictor.predict(choices_NL), made_up.noisy(choices_NL, name)
            lower_N, upper_N = interval.bounds(predicted_N, model.stretch_of(choices_NL))
            measured[f"{name}_coverage_90"] = float(((lower_N <= z_N) & (z_N <= upper_N)).mean())
            measured[f"{name}_tau"] = kendall_tau(predicted_N, made_up.accuracy(choices_NL)) or 0.0
        print(f"{made_up}: {measured}, ceiling {report['ceiling']}", flush=True)
        for name, value in measured.items():
            found.setdefault(name, []).append(value)
    return {name: round(statistics.mean(values), 4) for name, values in found.items()}


def long_search(model: WholeSpaceModel) -> Callable[[Limits], float]:
    """Return a function that gives the best prediction of 60 steps from the answer of a model with a large archive."""

    def best(limits: Limits) -> float:
        answer = model.best(named(model, limits), NUM_ENUMERATED)
        found = Candidates(answer.choices_NL, answer.predicted_N)
        return float(model.improved(found, limits, REFERENCE_STEPS).predicted_N[0])

    return best


def unanswered(model: WholeSpaceModel) -> int:
    """Count the whole millions of max_madds from 250 to 557 without an answer at or under the limit."""
    missing = 0
    for max_madds in range(250, 558):
        answer = model.best({"multi_adds": max_madds * 1e6}, 1)
        missing += not len(answer.predicted_N) or bool(answer.costs["multi_adds"].max() > max_madds * 1e6)
    return missing


if __name__ == "__main__":
    main()
