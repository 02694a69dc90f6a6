"""A whole search on real CIFAR-10, judged by the truth: all 6,561 networks of NAS-Bench-Macro, trained from scratch.

    python -m benchmarks.nas_bench_macro              quick: 3,000 images, 5 epochs, 100 sampled
    python -m benchmarks.nas_bench_macro --full       24,000 images at 16 x 16, 20 epochs, 600 sampled three times
                                                      over (or FULL=1)
    python -m benchmarks.nas_bench_macro --set fairness=strict    any dial changed, its effect against the same truth
    python -m benchmarks.nas_bench_macro --supernet-seed 1        another supernet, trained alike

The worker's own steps run on a supernet that is trained once and kept, with all z, under ``NASATLAS_BENCHMARK_CACHE``
(by default ``~/.cache/nasatlas-benchmarks``). Figures are means over the seeds of the sampling, ``by_seed`` has the
single ones. Truth is the mean of the three seeds of the benchmark's file. Reported are Kendall's
tau of the sampled accuracies and of the predictions against the truth, on the sampled architectures (``tau_sampled``,
``tau_gain``) and on all (``tau_predicted``), tau inside the true top tenth and inside a narrow band of multi-adds, and
where the final architecture stands: ``final_percentile`` (0 is the best) and ``final_regret`` (points).

``labels_16_...`` and ``labels_32_...`` are the same search with so many true labels (``num_standalone``). A label is
the accuracy of the file's first seed: training 32 networks as its authors did takes GPU days. ``--train-labels`` trains
them here instead, each as the search's own steps do, a process per core (``labels_32_label_minutes``; with the
supernet, the evaluations and all fits ``labels_32_minutes``, if nothing was kept).

The same for the baselines, each with as many evaluations of the same supernet: the best of the random samples (the
paper's own baseline), additive ridge, the paper's GCN, and NSGA-II on accuracy and multi-adds as in FairNAS; and
``reevaluated``, the best z among the top of ``auto`` instead of its choice by prediction and z together. CIFAR-10 and
the benchmark's file are read under ``NASATLAS_DATA_ROOT``; without them nothing is measured, and the last line says so.
It is one JSON object.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from app.domain.multi_adds import count
from app.domain.search_config import from_preset
from app.domain.search_space import Architecture, preset
from app.domain.seeds import generator
from benchmarks._labelled_spaces import macro_path
from benchmarks._macro_truth import (
    LabelledNetworks,
    OneSupernet,
    Truth,
    index_of,
    read_truth,
    ridge_predictions,
)
from benchmarks._pipeline import Finished, run_search
from worker.nas.device import choose_device
from worker.nas.sampling import sample_distinct
from worker.nas.training_config import SupernetTrainingConfig
from worker.pipeline.ports import Search

Float64Array = NDArray[np.float64]

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
        seed: Of the sampling.
        supernet_seed: Of the supernet, which is the same for every sampling.
    """

    num_images: int
    epochs: int
    num_sampled: int
    num_reevaluated: int
    seed: int = 0
    supernet_seed: int = 0


FULL = Sizes(num_images=24_000, epochs=20, num_sampled=600, num_reevaluated=100)
QUICK = Sizes(num_images=3_000, epochs=5, num_sampled=100, num_reevaluated=20)


def main() -> None:
    """Search, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the configuration")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the sampling")
    parser.add_argument("--supernet-seed", type=int, default=0, help="of the supernet that all of them share")
    parser.add_argument("--labels", type=int, nargs="*", default=NUM_LABELS, help="numbers of true labels")
    parser.add_argument("--train-labels", action="store_true", help="train the true labels instead of reading them")
    arguments = parser.parse_args()
    path, root = macro_path(), os.environ.get("NASATLAS_DATA_ROOT")
    if path is None or root is None or not (Path(root) / "cifar10").is_dir():
        print(json.dumps({"skipped": "set NASATLAS_DATA_ROOT to where cifar10/ and nas-bench-macro/cifar10.csv are"}))
        return
    sizes = FULL if arguments.full else QUICK
    dials = {key: _value(text) for key, _, text in (each.partition("=") for each in arguments.set)}
    by_seed: list[dict[str, Any]] = []
    for seed in arguments.seeds or ((0, 1, 2) if arguments.full else (0,)):
        one = replace(sizes, seed=seed, supernet_seed=arguments.supernet_seed)
        comparison = Comparison(one, Path(root), read_truth(path), dials, train_labels=arguments.train_labels)
        by_seed.append({"seed": seed, **comparison.figures(arguments.labels)})
        print(json.dumps(by_seed[-1]), flush=True)
    minutes: list[float] = [one["minutes"] for one in by_seed]
    figures = {**means(by_seed), "minutes": max(minutes), "by_seed": by_seed, "full": arguments.full, "dials": dials}
    asked = {"train_labels": arguments.train_labels, "supernet_seed": arguments.supernet_seed}
    print(json.dumps({**figures, **asked, "load_average": os.getloadavg()[0]}))


def means(by_seed: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each figure over the seeds; None where one seed has none."""
    columns = {name: [figures[name] for figures in by_seed] for name in by_seed[0] if name != "seed"}
    return {name: None if None in values else round(statistics.mean(values), 4) for name, values in columns.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Comparison:
    """One supernet, and what each way of searching makes of it."""

    def __init__(
        self, sizes: Sizes, data_root: Path, truth: Truth, dials: Mapping[str, Any], *, train_labels: bool = False
    ) -> None:
        self.sizes, self.truth, self.dials = sizes, truth, dials
        self.cache = Path(os.environ.get("NASATLAS_BENCHMARK_CACHE", "~/.cache/nasatlas-benchmarks")).expanduser()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.places: dict[str, Any] = {
            "choose_device": partial(choose_device, "auto"),
            "data_root": data_root,
        }
        networks = OneSupernet if train_labels else partial(LabelledNetworks, truth)
        # the supernet is the same for every predictor, and this one takes every dial
        trained = self.search("paper")
        trained = replace(trained, config=trained.config.model_copy(update={"seed": sizes.supernet_seed}))
        self.networks = networks(trained, self.cache, **self.places)

    def figures(self, nums_labels: Sequence[int]) -> dict[str, object]:
        """Run everything and return the figures, those of ``auto`` without a prefix."""
        started = time.perf_counter()
        auto = self.finished("auto")
        minutes = (time.perf_counter() - started) / 60
        index_N, z_N = self.sampled(auto)
        figures = self.judged("auto", auto)
        ridge_N = ridge_predictions(auto)
        baselines: dict[str, dict[str, float | None]] = {
            "reevaluated": self.best_of_top(auto.fitted[0].table.predicted_accuracy),
            "random": self.standing(self.best_of_random()),
            "ridge": self.ranking(auto, ridge_N) | self.best_of_top(ridge_N),
            "paper": self.judged("paper", self.finished("paper")),
            "nsga2": self.standing(self.nsga2()),
        }
        for num in nums_labels:
            before, begun = self.networks.label_minutes, time.perf_counter()
            baselines[f"labels_{num}"] = self.judged(f"{num} labels", self.finished("auto", num_standalone=num))
            baselines[f"labels_{num}"] |= {
                "label_minutes": round(self.networks.label_minutes - before, 1),
                "minutes": round(minutes + (time.perf_counter() - begun) / 60, 1),
            }
        return {
            "tau_sampled": self.truth.tau(z_N, index_N),
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
        trained["seed"] = sizes.supernet_seed
        digest = hashlib.sha256(json.dumps(trained).encode()).hexdigest()[:12]
        return Search(f"nas-bench-macro-{digest}", "cifar10", space, config)

    def finished(self, predictor: str, num_standalone: int = 0) -> Finished:
        """Run a search to its end."""
        started = time.perf_counter()
        finished = run_search(self.search(predictor, num_standalone), self.networks, self.networks.train_together)
        print(f"{predictor}: {finished.closed[0].best_code} in {time.perf_counter() - started:.0f} s", flush=True)
        return finished

    def judged(self, name: str, finished: Finished) -> dict[str, float | None]:
        """Tau of a search's table, and where its final architecture stands."""
        table, final = finished.fitted[0].table, finished.closed[0].best_code
        figures = self.ranking(finished, table.predicted_accuracy.astype(np.float64)) | self.standing(index_of(final))
        print(f"{name}: {json.dumps(figures)}, held out {finished.fitted[0].held_out_tau}", flush=True)
        return figures

    def ranking(self, finished: Finished, predicted_N: Float64Array) -> dict[str, float | None]:
        """Taus of predictions of the whole space, and what they gain over z on the sampled architectures."""
        index_N, z_N = self.sampled(finished)
        predicted, sampled = self.truth.tau(predicted_N[index_N], index_N), self.truth.tau(z_N, index_N)
        gain = None if predicted is None or sampled is None else round(predicted - sampled, 4)
        return {"tau_gain": gain} | self.truth.judge(predicted_N)

    def standing(self, index: int) -> dict[str, float | None]:
        """Where an architecture stands among all."""
        return {"final_percentile": self.truth.percentile(index), "final_regret": self.truth.regret(index)}

    def sampled(self, finished: Finished) -> tuple[NDArray[np.int64], Float64Array]:
        """Return the sampled architectures' indices and their z."""
        pairs = finished.stored_pairs[0, "sampled"]
        return np.array([index_of(p.code) for p in pairs]), np.array([p.accuracy for p in pairs])

    def best_of_top(self, predicted_N: NDArray[np.floating]) -> dict[str, float | None]:
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


def _architecture(index: int) -> Architecture:
    space = preset("nas-bench-macro")
    return space.check([int(i) for i in np.unravel_index(index, space.num_choices)])


if __name__ == "__main__":
    main()
