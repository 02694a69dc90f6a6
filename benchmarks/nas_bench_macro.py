"""A whole search on real CIFAR-10, judged by the truth: all 6,561 networks of NAS-Bench-Macro, trained from scratch.

    python -m benchmarks.nas_bench_macro              quick: 3,000 images, 5 epochs, 100 sampled
    python -m benchmarks.nas_bench_macro --full       24,000 images at 16 x 16, 20 epochs, 600 sampled (or FULL=1)
    python -m benchmarks.nas_bench_macro --set fairness=strict    any dial changed, its effect against the same truth

The worker's own steps run on a supernet that is trained once and kept under ``NASATLAS_BENCHMARK_CACHE`` (by default
``~/.cache/nasatlas-benchmarks``). Truth is the mean of the three seeds of the benchmark's file. Reported are Kendall's
tau of the sampled accuracies and of the predictions against the truth, on the sampled architectures (``tau_sampled``,
``tau_gain``) and on all (``tau_predicted``), tau inside the true top tenth and inside a narrow band of multi-adds, and
where the final architecture stands: ``final_percentile`` (0 is the best) and ``final_regret`` (points).

``labels_16_...`` and ``labels_32_...`` are the same search with so many true labels (``num_standalone``). A label is
the accuracy of the file's first seed: training 32 networks as its authors did takes GPU days. ``--train-labels`` trains
them here instead, each as the search's own steps do.

The same for the baselines, each with as many evaluations of the same supernet: the best of the random samples (the
paper's own baseline), additive ridge, the paper's GCN, and NSGA-II on accuracy and multi-adds as in FairNAS. CIFAR-10
and the benchmark's file are read under ``NASATLAS_DATA_ROOT``; without them nothing is measured, and the last line says
so. It is one JSON object.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from app.domain.multi_adds import count
from app.domain.rank_correlation import kendall_tau
from app.domain.search_config import from_preset
from app.domain.search_space import Architecture, preset
from app.domain.seeds import generator
from app.domain.standalone_recipe import Retraining
from app.domain.whole_space.additive_ridge import fit_additive
from benchmarks._labelled_spaces import macro_path, macro_seeds
from benchmarks._pipeline import Finished, run_search
from worker.nas.sampling import sample_distinct
from worker.nas.training_config import SupernetTrainingConfig
from worker.networks import TorchNetworks
from worker.pipeline.ports import Report, Retrained, Search

Float64Array = NDArray[np.float64]

TOP_SHARE = 0.1
BAND = 0.05
"""Half the width of the band of multi-adds, relative to its middle, the median."""

POPULATION = 40
MAX_GENERATIONS = 200
"""Of NSGA-II, in case that it meets nothing new any more."""

NUM_LABELS = (16, 32)

TRAINED_BY = frozenset(SupernetTrainingConfig.__dataclass_fields__) | {
    "seed",
    "num_classes",
    "num_images",
    "validation_fraction",
    "proxy_resolution",
    "proxy_width",
}
"""Fields of the configuration that a supernet depends on."""


@dataclass(frozen=True)
class Sizes:
    """How much is trained and evaluated.

    Attributes:
        num_images: Of CIFAR-10, a tenth of them for validation.
        epochs: Of the supernet.
        num_sampled: Random architectures.
        num_reevaluated: Of the predictor's best.
        seeds: Of the sampling; the supernet is one.
    """

    num_images: int
    epochs: int
    num_sampled: int
    num_reevaluated: int
    seed: int = 0


FULL = Sizes(num_images=24_000, epochs=20, num_sampled=600, num_reevaluated=100)
QUICK = Sizes(num_images=3_000, epochs=5, num_sampled=100, num_reevaluated=20)


@dataclass(frozen=True)
class Truth:
    """The true accuracies of the whole space.

    Attributes:
        accuracy_N: float64 [6561], by index of the whole space.
        multi_adds_N: float64 [6561].
        one_seed_N: float64 [6561], accuracies of one training each.
    """

    accuracy_N: Float64Array
    multi_adds_N: Float64Array
    one_seed_N: Float64Array

    def percentile(self, index: int) -> float:
        """Share of the architectures that are better, in percent."""
        return round(float((self.accuracy_N > self.accuracy_N[index]).mean() * 100), 3)

    def regret(self, index: int) -> float:
        """Points below the best architecture."""
        return round(float((self.accuracy_N.max() - self.accuracy_N[index]) * 100), 3)

    def judge(self, predicted_N: Float64Array) -> dict[str, float | None]:
        """Tau of predictions of the whole space: on all, inside the true top tenth, inside the band of multi-adds."""
        top = np.argsort(-self.accuracy_N)[: round(TOP_SHARE * len(self.accuracy_N))]
        middle = np.median(self.multi_adds_N)
        band = np.flatnonzero(np.abs(self.multi_adds_N / middle - 1) <= BAND)
        parts = {"predicted": np.arange(len(self.accuracy_N)), "top": top, "band": band}
        return {f"tau_{name}": self.tau(predicted_N[part], part) for name, part in parts.items()}

    def tau(self, predicted_N: Float64Array, index_N: NDArray[np.int64]) -> float | None:
        """Tau of some architectures' predictions."""
        tau = kendall_tau(predicted_N, self.accuracy_N[index_N])
        return None if tau is None else round(tau, 4)


def main() -> None:
    """Search, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the configuration")
    parser.add_argument("--train-labels", action="store_true", help="train the true labels instead of reading them")
    arguments = parser.parse_args()
    path, root = macro_path(), os.environ.get("NASATLAS_DATA_ROOT")
    if path is None or root is None or not (Path(root) / "cifar10").is_dir():
        print(json.dumps({"skipped": "set NASATLAS_DATA_ROOT to where cifar10/ and nas-bench-macro/cifar10.csv are"}))
        return
    sizes = FULL if arguments.full else QUICK
    dials = {key: _value(text) for key, _, text in (each.partition("=") for each in arguments.set)}
    comparison = Comparison(sizes, Path(root), read_truth(path), dials, train_labels=arguments.train_labels)
    figures = comparison.figures()
    print(json.dumps({**figures, "full": arguments.full, "dials": dials, "load_average": os.getloadavg()[0]}))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def read_truth(path: Path) -> Truth:
    """Read the mean of three seeds, and multi-adds, of all architectures."""
    index_N, accuracy_N3 = macro_seeds(path)
    space, order = preset("nas-bench-macro"), np.argsort(index_N)
    architectures = np.stack(np.unravel_index(np.arange(space.size), space.num_choices), axis=1)
    multi_adds_N = np.array([float(count(space, m).multi_adds) for m in architectures.tolist()])
    return Truth(accuracy_N3[order].mean(1), multi_adds_N, accuracy_N3[order, 0])


class LabelledNetworks(TorchNetworks):
    """The worker's networks, with the stand-alone accuracies of the benchmark's file instead of trainings."""

    def __init__(self, truth: Truth, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._truth = truth

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        """Return one training's accuracy."""
        return Retrained(float(self._truth.one_seed_N[index_of(retraining.code)]), "", {})


class Comparison:
    """One supernet, and what each way of searching makes of it."""

    def __init__(
        self, sizes: Sizes, data_root: Path, truth: Truth, dials: Mapping[str, Any], *, train_labels: bool
    ) -> None:
        self.sizes, self.truth, self.dials = sizes, truth, dials
        self.cache = Path(os.environ.get("NASATLAS_BENCHMARK_CACHE", "~/.cache/nasatlas-benchmarks")).expanduser()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.places: dict[str, Any] = {
            "choose_device": lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            "data_root": data_root,
            "artifact_url": self.cache.as_uri(),
        }
        networks = TorchNetworks if train_labels else partial(LabelledNetworks, truth)
        self.networks = networks(**self.places)

    def figures(self) -> dict[str, object]:
        """Run everything and return the figures, those of ``auto`` without a prefix."""
        started = time.perf_counter()
        auto = self.finished("auto")
        minutes = (time.perf_counter() - started) / 60
        index_N, z_N = self.sampled(auto)
        figures = self.judged("auto", auto)
        predicted_N = auto.fitted[0].table.predicted_accuracy.astype(np.float64)
        on_sampled = self.truth.tau(predicted_N[index_N], index_N)
        tau_sampled = self.truth.tau(z_N, index_N)
        assert on_sampled is not None
        assert tau_sampled is not None
        ridge_N = ridge_predictions(auto)
        baselines: dict[str, dict[str, float | None]] = {
            "random": self.standing(self.best_of_random()),
            "ridge": self.truth.judge(ridge_N) | self.best_of_top(auto, ridge_N),
            "paper": self.judged("paper", self.finished("paper")),
            "nsga2": self.standing(self.nsga2()),
            **{f"labels_{n}": self.judged(f"{n} labels", self.finished("auto", num_standalone=n)) for n in NUM_LABELS},
        }
        return {
            "tau_sampled": tau_sampled,
            "tau_gain": round(on_sampled - tau_sampled, 4),
            **figures,
            **{f"{name}_{figure}": value for name, part in baselines.items() for figure, value in part.items()},
            "supernet_accuracy": round(float(z_N.mean()), 4),
            "num_sampled": self.sizes.num_sampled,
            "num_evaluations": self.budget,
            "minutes": round(minutes, 1),
        }

    def search(self, predictor: str, num_standalone: int = 0) -> Search:
        """Return a search whose supernet all predictors share: its id says what was trained, and how."""
        space, sizes = preset("nas-bench-macro"), self.sizes
        config = from_preset(
            "quick",
            {
                "num_images": sizes.num_images,
                "proxy_resolution": 16,
                "proxy_width": 1.0,
                "epochs": sizes.epochs,
                "batch_size": 64,
                "num_sampled": sizes.num_sampled,
                "num_held_out": sizes.num_sampled // 10,
                "num_calibration_images": 1000,
                "num_reevaluated": sizes.num_reevaluated,
                "gcn_hidden_sizes": [512, 512],
                "gcn_epochs": 600,
                "predictor": predictor,
                "num_standalone": num_standalone,
                "num_classes": 10,
                "seed": sizes.seed,
                **self.dials,
            },
        ).resolved(space)
        trained = {key: value for key, value in config.model_dump(mode="json").items() if key in TRAINED_BY}
        digest = hashlib.sha256(json.dumps(trained).encode()).hexdigest()[:12]
        return Search(f"nas-bench-macro-{digest}", "cifar10", space, config)

    def finished(self, predictor: str, num_standalone: int = 0) -> Finished:
        """Run a search to its end."""
        started = time.perf_counter()
        finished = run_search(self.search(predictor, num_standalone), self.networks)
        print(f"{predictor}: {finished.closed[0].best_code} in {time.perf_counter() - started:.0f} s", flush=True)
        return finished

    def judged(self, name: str, finished: Finished) -> dict[str, float | None]:
        """Tau of a search's table, and where its final architecture stands."""
        table, final = finished.fitted[0].table, finished.closed[0].best_code
        figures = self.truth.judge(table.predicted_accuracy.astype(np.float64)) | self.standing(index_of(final))
        print(f"{name}: {json.dumps(figures)}, held out {finished.fitted[0].held_out_tau}", flush=True)
        return figures

    def standing(self, index: int) -> dict[str, float | None]:
        """Where an architecture stands among all."""
        return {"final_percentile": self.truth.percentile(index), "final_regret": self.truth.regret(index)}

    def sampled(self, finished: Finished) -> tuple[NDArray[np.int64], Float64Array]:
        """Return the sampled architectures' indices and their z."""
        pairs = finished.stored_pairs[0, "sampled"]
        return np.array([index_of(p.code) for p in pairs]), np.array([p.accuracy for p in pairs])

    def best_of_top(self, finished: Finished, predicted_N: Float64Array) -> dict[str, float | None]:
        """Step 3 for another predictor: its best ones are evaluated, and the best of these is final."""
        top = np.argsort(-predicted_N, kind="stable")[: self.sizes.num_reevaluated]
        z_N = self.evaluate([_architecture(i) for i in top.tolist()])
        return self.standing(int(top[int(np.argmax(z_N))]))

    def evaluate(self, architectures: Sequence[Architecture]) -> list[float]:
        """Return z of some architectures."""
        return self.networks.evaluate(self.search("auto"), architectures, lambda done, detail: None)

    @property
    def budget(self) -> int:
        """Evaluations of the supernet that every way of searching has."""
        return self.sizes.num_sampled + self.sizes.num_reevaluated

    def best_of_random(self) -> int:
        """Return the best of as many random architectures."""
        index_N = sample_distinct(len(self.truth.accuracy_N), self.budget, generator(self.sizes.seed, None, "random"))
        z_N = self.evaluate([_architecture(i) for i in index_N.tolist()])
        return int(index_N[int(np.argmax(z_N))])

    def nsga2(self) -> int:
        """Return the most accurate architecture that NSGA-II finds with as many evaluations."""
        comparison, space = self, preset("nas-bench-macro")
        known: dict[Architecture, float] = {}

        class Networks(Problem):  # type: ignore[misc]
            def __init__(self) -> None:
                upper = np.array(space.num_choices) - 1
                super().__init__(n_var=space.num_cells, n_obj=2, xl=np.zeros_like(upper), xu=upper, vtype=int)

            def _evaluate(self, x: NDArray[np.int64], out: dict[str, object], *_: object, **__: object) -> None:
                architectures = [space.check(row) for row in x.tolist()]
                new = [m for m in dict.fromkeys(architectures) if m not in known]
                known.update(zip(new, comparison.evaluate(new), strict=True))
                multi_adds = [count(space, m).multi_adds / 1e6 for m in architectures]
                out["F"] = np.stack([[-known[m] for m in architectures], multi_adds], axis=1)

        algorithm = NSGA2(
            pop_size=POPULATION,
            sampling=IntegerRandomSampling(),
            crossover=TwoPointCrossover(),
            mutation=PolynomialMutation(prob=1.0, prob_var=0.1, eta=3, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        algorithm.setup(Networks(), termination=("n_gen", MAX_GENERATIONS), seed=self.sizes.seed, verbose=False)
        while len(known) < self.budget and algorithm.has_next():
            algorithm.next()
        print(f"nsga2: {len(known)} architectures evaluated", flush=True)
        best, _ = max(list(known.items())[: self.budget], key=lambda item: item[1])
        return index_of(space.code(best))


def ridge_predictions(finished: Finished) -> Float64Array:
    """Return the whole space as an additive ridge regression on a search's fitted pairs predicts it."""
    space = preset("nas-bench-macro")
    pairs = [p for p in finished.stored_pairs[0, "sampled"] if not p.held_out]
    choices_NL = np.array([space.parse_code(p.code) for p in pairs])
    fitted = fit_additive(space.num_choices, choices_NL, np.array([p.accuracy for p in pairs]))
    everything = np.stack(np.unravel_index(np.arange(space.size), space.num_choices), axis=1)
    return np.asarray(fitted.function.of(everything.astype(np.uint8)))


def index_of(code: str) -> int:
    """Place of an architecture in the whole space: its code is a number of base three."""
    return int(code, 3)


def _architecture(index: int) -> Architecture:
    space = preset("nas-bench-macro")
    return space.check([int(i) for i in np.unravel_index(index, space.num_choices)])


if __name__ == "__main__":
    main()
