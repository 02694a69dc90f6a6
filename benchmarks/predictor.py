"""Ranking by ``auto``, by the paper's GCN and by additive ridge, against the truth.

    python -m benchmarks.predictor            quick: four cells of the grid, one seed, small and short GCNs
    python -m benchmarks.predictor --full     all 16 cells, five seeds, the paper's GCN (or FULL=1 in the environment)
    python -m benchmarks.predictor --full --seeds 0 1 --num-sampled 1000 --sigmas 0.5 --no-synthetic     a part
    python -m benchmarks.predictor --full --only inherited     some of the predictors, without margins
    python -m benchmarks.predictor --merge first.log second.log     the figures of parts, from what they printed; what a
                                                                    later one says of a cell and seed counts

Truth is the mean of the three seeds of NAS-Bench-Macro, read under ``NASATLAS_DATA_ROOT`` (without it this part is
skipped, and the last line says so), and made-up accuracies of 6^5 architectures with strong interactions between every
two cells. Labels are the truth of ``num_sampled`` architectures with normal noise of ``sigma`` points; every predictor
is judged on all other architectures: Kendall's tau, tau inside the true top 10 %, and the regret of the best of its top
100. Two predictors are called ``auto``, and both are measured:

- ``auto``: the blend with interactions, for accuracies of networks trained by themselves, and what a search fits whose
  true labels are to correct it. ``worst_margin`` and ``mean_margin`` are its mean tau minus the better of ridge and the
  paper's GCN, ``coverage_90`` is the share of new noisy labels inside its intervals.
- ``inherited``: the nearly additive process, what a search without true labels gets. It leaves most interactions out
  on purpose (a supernet's may be its artefacts), so on this truth, which has real ones and none of these, it may lose
  to the GCN.
  ``inherited_worst_margin``, ``inherited_mean_margin`` and ``inherited_coverage_90`` are the same of it.

The last line of the output is one JSON object.
"""

import argparse
import json
import os
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.prediction_interval import PredictionInterval
from app.domain.rank_correlation import kendall_tau
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_ridge import fit_additive
from benchmarks._labelled_spaces import Space, macro_path, macro_truth, strong_interactions
from worker.nas.auto_predictor import fit_auto
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_subspace
from worker.nas.inherited_predictor import fit_inherited

NUM_TOP = 100
TOP_SHARE = 0.1
PREDICTORS = ("ridge", "paper", "auto", "inherited")
CHOSEN = ("auto", "inherited")

Float64Array = NDArray[np.float64]
Measured = dict[str, list[dict[str, float]]]
"""Figures of each seed, by cell."""
Predicted = tuple[Float64Array, PredictionInterval | None]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        config: Of every GCN.
        num_sampled: Numbers of pairs.
        sigmas: Label noise in points.
        seeds: Of every cell of the grid.
        synthetic: (num_sampled, sigma) on the made-up spaces.
    """

    config: GCNTrainingConfig
    num_sampled: tuple[int, ...]
    sigmas: tuple[float, ...]
    seeds: tuple[int, ...]
    synthetic: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, full: bool) -> "Sizes":
        """Return the issue's sizes, or quick ones."""
        if full:
            synthetic = tuple((n, s) for n in (300, 1000) for s in (0.0, 0.5, 1.5))
            return cls(GCNTrainingConfig(), (100, 300, 1000, 2000), (0.0, 0.5, 1.5, 3.0), (0, 1, 2, 3, 4), synthetic)
        return cls(GCNTrainingConfig((128, 128), 200), (100, 300), (0.5, 3.0), (0,), ((300, 0.5),))


@dataclass(frozen=True)
class Truth:
    """The accuracies of all architectures of a space, by node."""

    name: str
    space: Space
    accuracy_N: Float64Array


@dataclass(frozen=True)
class Cell:
    """A cell of the grid with one seed."""

    truth: Truth
    num_sampled: int
    sigma: float
    seed: int

    @property
    def name(self) -> str:
        """What all seeds of the cell share."""
        return f"{self.truth.name} n={self.num_sampled} sigma={self.sigma}"


def main() -> None:
    """Measure, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--num-sampled", type=int, nargs="+")
    parser.add_argument("--sigmas", type=float, nargs="+")
    parser.add_argument("--no-macro", action="store_true")
    parser.add_argument("--no-synthetic", action="store_true")
    parser.add_argument("--only", choices=PREDICTORS, nargs="+", default=PREDICTORS)
    parser.add_argument("--merge", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.merge:
        print(json.dumps(merged(arguments.merge)))
        return
    sizes = Sizes.of(arguments.full)
    seeds = tuple(arguments.seeds or sizes.seeds)
    nums, sigmas = arguments.num_sampled or sizes.num_sampled, arguments.sigmas or sizes.sigmas
    path = macro_path()
    figures: dict[str, object] = {"full": arguments.full, "seeds": list(seeds)}
    if path is None:
        print("NAS-Bench-Macro is skipped: set NASATLAS_DATA_ROOT to where nas-bench-macro/cifar10.csv is", flush=True)
        figures["skipped"] = ["NAS-Bench-Macro's accuracies: set NASATLAS_DATA_ROOT"]
    coverages: dict[str, list[float]] = {name: [] for name in CHOSEN}
    if path is not None and not arguments.no_macro:
        index_N, accuracy_N = macro_truth(path)
        macro = Truth("macro", Space("nas-bench-macro", 8), accuracy_N[np.argsort(index_N)])
        # seed by seed, so that an interrupted run has seen every cell
        cells = (Cell(macro, n, s, seed) for seed in seeds for n in nums for s in sigmas)
        found = measured(cells, sizes.config, arguments.only)
        figures |= {} if set(arguments.only) < set(PREDICTORS) else summary(found, coverages)
    if not arguments.no_synthetic:
        synthetic = {seed: Truth("synthetic", Space("fairnas", 5), strong_interactions(5, seed)) for seed in seeds}
        cells = (Cell(synthetic[seed], n, s, seed) for seed in seeds for n, s in sizes.synthetic)
        found = measured(cells, sizes.config, arguments.only)
        of_synthetic = {} if set(arguments.only) < set(PREDICTORS) else summary(found, coverages)
        figures |= {f"synthetic_{name}": value for name, value in of_synthetic.items()}
    print(json.dumps(figures | covered(coverages) | {"load_average": os.getloadavg()[0]}))


def merged(logs: Sequence[Path]) -> dict[str, object]:
    """Return the figures of several parts of a full run from the lines of their cells."""
    by_seed: dict[tuple[str, str, int], dict[str, float]] = {}
    for line in (line for log in logs for line in log.read_text().splitlines()):
        if match := re.fullmatch(r"((macro|synthetic) n=\d+ sigma=[\d.]+) seed (\d+): ({.*})", line):
            by_seed.setdefault((match[2], match[1], int(match[3])), {}).update(json.loads(match[4]))
    found: dict[str, Measured] = {"macro": {}, "synthetic": {}}
    for (space, cell, _), row in sorted(by_seed.items()):
        found[space].setdefault(cell, []).append(row)
    coverages: dict[str, list[float]] = {name: [] for name in CHOSEN}
    seeds = sorted({seed for _, _, seed in by_seed})
    figures: dict[str, object] = {"full": True, "seeds": seeds}
    if found["macro"]:
        figures |= summary(found["macro"], coverages)
    if found["synthetic"]:
        of_synthetic = summary(found["synthetic"], coverages)
        figures |= {f"synthetic_{name}": value for name, value in of_synthetic.items()}
    return figures | covered(coverages)


def covered(coverages: dict[str, list[float]]) -> dict[str, object]:
    """Return the mean coverage of each predictor's intervals."""
    return {
        f"{_prefix(name)}coverage_90": round(statistics.mean(of_all), 4) for name, of_all in coverages.items() if of_all
    }


def measured(cells: Iterator[Cell], config: GCNTrainingConfig, names: Sequence[str]) -> Measured:
    """Measure cells, and print a line each."""
    found: Measured = {}
    for cell in cells:
        figures = measure(cell, config, names)
        found.setdefault(cell.name, []).append(figures)
        print(f"{cell.name} seed {cell.seed}: {json.dumps({k: round(v, 4) for k, v in figures.items()})}", flush=True)
    return found


def summary(found: Measured, coverages: dict[str, list[float]]) -> dict[str, object]:
    """Return margins and means of measured cells; their coverages are added to the lists."""
    means = {name: {k: statistics.mean(row[k] for row in rows) for k in rows[0]} for name, rows in found.items()}
    summed: dict[str, object] = {}
    for chosen in CHOSEN:
        prefix = _prefix(chosen)
        margins = {
            name: mean[f"tau_{chosen}"] - max(mean["tau_ridge"], mean["tau_paper"]) for name, mean in means.items()
        }
        coverage = {name: mean[f"coverage_{chosen}"] for name, mean in means.items()}
        for name, margin in margins.items():
            print(f"{name}: {chosen} margin {margin:+.4f}, coverage {coverage[name]:.3f}", flush=True)
        coverages[chosen] += [row[f"coverage_{chosen}"] for rows in found.values() for row in rows]
        summed |= {
            f"{prefix}worst_margin": round(min(margins.values()), 4),
            f"{prefix}mean_margin": round(statistics.mean(margins.values()), 4),
            f"{prefix}margins": {name: round(margin, 4) for name, margin in margins.items()},
            f"{prefix}coverage_min": round(min(coverage.values()), 4),
            f"{prefix}coverage_max": round(max(coverage.values()), 4),
        }
    return {
        **summed,
        **{
            f"{kind}_{name}": round(statistics.mean(mean[f"{kind}_{name}"] for mean in means.values()), 4)
            for kind in ("tau", "tau_top", "regret_points", "seconds")
            for name in PREDICTORS
        },
    }


def measure(cell: Cell, config: GCNTrainingConfig, names: Sequence[str]) -> dict[str, float]:
    """Fit predictors to a cell's pairs and judge them on all other architectures."""
    truth_N, graph, features = cell.truth.accuracy_N, cell.truth.space.graph, cell.truth.space.features
    rng = generator(cell.seed, None, f"{cell.num_sampled} {cell.sigma}")
    noisy_N = np.clip(truth_N + rng.normal(0, cell.sigma / 100, len(truth_N)), 0, 1)
    shuffled = rng.permutation(len(truth_N))
    index_N, others = np.sort(shuffled[: cell.num_sampled]), shuffled[cell.num_sampled :]
    accuracy_N, seed = noisy_N[index_N], derive_seed(cell.seed, None, "fit")

    def ridge() -> Predicted:
        return fit_additive(graph.factor_sizes, graph.choices(index_N), accuracy_N).function.whole_space(), None

    def paper() -> Predicted:
        return predict_subspace(fit_gcn(graph, features, index_N, accuracy_N, config, seed)).astype(np.float64), None

    def auto() -> Predicted:
        fit = fit_auto(graph, features, index_N, accuracy_N, config, seed)
        return fit.predict_subspace().astype(np.float64), fit.interval

    def inherited() -> Predicted:
        fit = fit_inherited(graph, features, index_N, accuracy_N, seed)
        return fit.predict_subspace().astype(np.float64), fit.interval

    figures = {}
    for name, fit in zip(PREDICTORS, (ridge, paper, auto, inherited), strict=True):
        if name not in names:
            continue
        started = time.perf_counter()
        predicted_N, interval = fit()
        figures[f"seconds_{name}"] = time.perf_counter() - started
        figures |= {f"{kind}_{name}": value for kind, value in judged(predicted_N[others], truth_N[others]).items()}
        if interval is not None:
            lower_N, upper_N = interval.bounds(predicted_N[others])
            inside_N = (noisy_N[others] >= lower_N) & (noisy_N[others] <= upper_N)
            figures[f"coverage_{name}"] = float(inside_N.mean())
    return figures


def _prefix(name: str) -> str:
    """What names the figures of a predictor; those of the blend have kept their names."""
    return "" if name == "auto" else f"{name}_"


def judged(predicted_N: Float64Array, truth_N: Float64Array) -> dict[str, float]:
    """Return tau, tau inside the true top 10 %, and the regret in points of the best of the predicted top 100."""
    best = np.argsort(-truth_N, kind="stable")[: round(TOP_SHARE * len(truth_N))]
    chosen = np.argsort(-predicted_N, kind="stable")[:NUM_TOP]
    return {
        "tau": known_tau(predicted_N, truth_N),
        "tau_top": known_tau(predicted_N[best], truth_N[best]),
        "regret_points": 100 * float(truth_N.max() - truth_N[chosen].max()),
    }


def known_tau(first_N: Sequence[float] | Float64Array, second_N: Sequence[float] | Float64Array) -> float:
    """Return Kendall's tau; a ranking that is none at all is as good as a random one."""
    return kendall_tau(first_N, second_N) or 0.0


if __name__ == "__main__":
    main()
