"""NAS-Bench-Macro as a judge: the true accuracies of all 6,561 architectures, and networks that a comparison shares."""

import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.domain.multi_adds import count
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import Architecture, preset
from app.domain.standalone_recipe import Retraining
from app.domain.whole_space.additive_ridge import fit_additive
from benchmarks._labelled_spaces import macro_seeds
from benchmarks._pipeline import Finished
from worker.networks import TorchNetworks
from worker.pipeline.ports import NewStep, Report, Retrained, Search, UntrainableError

Float64Array = NDArray[np.float64]

TOP_SHARE = 0.1
BAND = 0.05
"""Half the width of the band of multi-adds, relative to its middle, the median."""


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


def read_truth(path: Path) -> Truth:
    """Read the mean of three seeds, and multi-adds, of all architectures."""
    index_N, accuracy_N3 = macro_seeds(path)
    space, order = preset("nas-bench-macro"), np.argsort(index_N)
    architectures = np.stack(np.unravel_index(np.arange(space.size), space.num_choices), axis=1)
    multi_adds_N = np.array([float(count(space, m).multi_adds) for m in architectures.tolist()])
    return Truth(accuracy_N3[order].mean(1), multi_adds_N, accuracy_N3[order, 0])


class OneSupernet(TorchNetworks):
    """The worker's networks with one trained supernet for many searches, whatever their seeds.

    No architecture is evaluated twice: z is the same each time, and is kept in a file beside the supernet.

    Attributes:
        trained: The search that the supernet and its images are of.
        label_minutes: What trainings of single architectures took so far.
    """

    def __init__(self, trained: Search, cache: Path, **places: Any) -> None:
        super().__init__(artifact_url=cache.as_uri(), **places)
        self.trained, self.label_minutes = trained, 0.0
        self._cache, self._places = cache, places
        self._retrained: dict[tuple[str, int], Retrained] = {}

    def train_supernet(self, search: Search, report: Report) -> Mapping[str, Any]:
        """Train it, or find it trained."""
        return super().train_supernet(self.trained, report)

    def evaluate(self, search: Search, architectures: Sequence[Architecture], report: Report) -> list[float]:
        """Return z of each architecture."""
        search = self._as_trained(search)
        way = f"{search.config.bn_statistics}-{search.config.num_calibration_images}"
        path = self._cache / search.id / f"z-{way}.json"
        known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        codes = [search.space.code(m) for m in architectures]
        if new := {code: m for code, m in zip(codes, architectures, strict=True) if code not in known}:
            known.update(zip(new, super().evaluate(search, list(new.values()), report), strict=True))
            written = path.with_suffix(".new")
            written.write_text(json.dumps(known))
            written.replace(path)
        return [known[code] for code in codes]

    def train_together(self, search: Search, steps: Sequence[NewStep]) -> None:
        """Train the architectures of steps, a process per core, as so many workers would; each step finds its own."""
        labels = [step for step in steps if step.kind == "train_standalone"]
        retrainings = [Retraining.model_validate(step.payload["retraining"]) for step in labels]
        retrainings = [one for one in retrainings if (one.code, one.seed) not in self._retrained]
        if not retrainings or self._device.type != "cpu":
            return
        started = time.perf_counter()
        with ProcessPoolExecutor(
            min(len(retrainings), os.cpu_count() or 1),
            multiprocessing.get_context("spawn"),
            _begin,
            (self.trained, self._cache, self._places),
        ) as pool:
            results = pool.map(_train, [search] * len(retrainings), retrainings)
            for retraining, retrained in zip(retrainings, results, strict=True):
                if retrained is not None:
                    self._retrained[retraining.code, retraining.seed] = retrained
        self.label_minutes += (time.perf_counter() - started) / 60

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        """Train one architecture by itself, on the supernet's images; or tell what is known of it."""
        if (known := self._retrained.get((retraining.code, retraining.seed))) is not None:
            return known
        started = time.perf_counter()
        # searches of all seeds have one id here
        retrained = super().retrain(self._as_trained(search), f"{job_id}-{retraining.seed}", retraining, report)
        self.label_minutes += (time.perf_counter() - started) / 60
        return retrained

    def _as_trained(self, search: Search) -> Search:
        config = search.config.model_copy(update={"seed": self.trained.config.seed})
        return replace(self.trained, config=config)


_networks: OneSupernet | None = None
"""Of a process that trains labels."""


def _begin(trained: Search, cache: Path, places: Mapping[str, Any]) -> None:
    global _networks
    torch.set_num_threads(1)
    _networks = OneSupernet(trained, cache, **places)


def _train(search: Search, retraining: Retraining) -> Retrained | None:
    """Return what a label's step does; None if it diverges, which the step itself will find again."""
    assert _networks is not None
    try:
        return _networks.retrain(search, f"{search.id}/standalone-{retraining.code}", retraining, lambda *_: None)
    except UntrainableError:
        return None


class LabelledNetworks(OneSupernet):
    """The same, with the stand-alone accuracies of the benchmark's file instead of trainings."""

    def __init__(self, truth: Truth, *arguments: Any, **places: Any) -> None:
        super().__init__(*arguments, **places)
        self._truth = truth

    def train_together(self, search: Search, steps: Sequence[NewStep]) -> None:
        """Nothing is trained."""

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        """Return one training's accuracy."""
        return Retrained(float(self._truth.one_seed_N[index_of(retraining.code)]), "", {})


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
