"""What each of the paper's dials changes, on one space whose truth is known: NAS-Bench-Macro on CIFAR-10.

    python -m benchmarks.dials            quick: 3,000 images, 2 epochs, 100 sampled
    python -m benchmarks.dials --full     12,000 images at 16 x 16, 6 epochs, 300 sampled (or FULL=1)

A supernet is trained for every dial of the training (kept under ``NASATLAS_BENCHMARK_CACHE``, see
``benchmarks.nas_bench_macro``); the other dials are searches on the first one, which remember z of what has been
evaluated before. Per dial: the mean of z, Kendall's tau against the truth of z on the sampled architectures and, over
all 6,561, of additive ridge, of the paper's GCN and of ``auto``; the GCN's tau against held-out z; and the share of
architectures that are truly better than the final one, in percent (of searches with two segments: means over three
seeds). With squeeze-and-excitation, the truth is still that of the networks without. CIFAR-10 and the benchmark's file
are read under ``NASATLAS_DATA_ROOT``; without them nothing is measured, and the last line says so. It is one JSON
object.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.search_space import SearchSpace
from benchmarks._labelled_spaces import macro_path
from benchmarks._macro_truth import OneSupernet, Truth, index_of, read_truth, ridge_predictions
from benchmarks._pipeline import Finished, run_search
from benchmarks.nas_bench_macro import FULL, QUICK, Comparison

Float64Array = NDArray[np.float64]

CALIBRATION: dict[str, Any] = {"num_calibration_images": 500}

SEARCHES: dict[str, dict[str, Any]] = {
    "bn_statistics=running": {"bn_statistics": "running"},
    "bn_statistics=batch": {"bn_statistics": "batch"},
    "similarity=measured": {"similarity": "measured"},
    "hamming_threshold=2": {"hamming_threshold": 2},
    "num_sampled doubled": {},
}
TRAININGS: dict[str, dict[str, Any]] = {
    "residual_scale=0": {"residual_scale": 0.0},
    "initialisation=independent": {"initialisation": "independent", "max_gradient_norm": None, "learning_rate": 0.1},
    "fairness=strict": {"fairness": "strict"},
    "epochs doubled": {},
    "squeeze-and-excitation": {},
}
SEGMENTS: dict[str, dict[str, Any]] = {
    "two segments": {},
    "two segments, num_preserved=1": {"num_preserved": 1},
    "two segments, back_to_front": {"segment_order": "back_to_front"},
}
TWO_SEGMENTS = [[0, 1, 2, 3], [4, 5, 6, 7]]
SEEDS = 3


class Dials:
    """Supernets of different trainings, and searches on what they say."""

    def __init__(self, root: Path, truth: Truth, *, full: bool) -> None:
        self.truth, self.root = truth, root
        self.sizes = (
            replace(FULL, num_images=12_000, epochs=6, num_sampled=300, num_reevaluated=30)
            if full
            else replace(QUICK, epochs=2)
        )

    def supernet(self, name: str, dials: Mapping[str, Any]) -> OneSupernet:
        """Return the supernet of a training."""
        sizes = replace(self.sizes, epochs=2 * self.sizes.epochs) if name == "epochs doubled" else self.sizes
        comparison = Comparison(sizes, self.root, self.truth, {**CALIBRATION, **dials})
        trained = comparison.search("paper")
        if name == "squeeze-and-excitation":
            trained = replace(trained, id=f"{trained.id}-se", space=_with_squeeze_and_excitation(trained.space))
        return OneSupernet(trained, comparison.cache, **comparison.places)

    def finished(self, networks: OneSupernet, predictor: str, dials: Mapping[str, Any], seed: int = 0) -> Finished:
        """Run a search on a trained supernet."""
        sizes = replace(self.sizes, seed=seed)
        changed = Comparison(sizes, self.root, self.truth, {**CALIBRATION, **dials})
        return run_search(changed.search(predictor), networks)

    def judged(self, name: str, networks: OneSupernet, dials: Mapping[str, Any]) -> dict[str, Any]:
        """Return the figures of searches of one segment, with both predictors."""
        paper = self.finished(networks, "paper", dials)
        # the dials of the GCN's graph are none of auto's
        is_graph = bool({"similarity", "hamming_threshold"} & set(dials))
        auto = None if is_graph else self.finished(networks, "auto", dials)
        pairs = paper.stored_pairs[0, "sampled"]
        figures = {
            "mean_z": round(float(np.mean([p.accuracy for p in pairs])), 4),
            "tau_z": self.truth.tau(np.array([p.accuracy for p in pairs]), np.array([index_of(p.code) for p in pairs])),
            "tau_ridge": self.table_tau(ridge_predictions(paper)),
            "tau_paper": self.table_tau(_table(paper)),
            "held_out_tau_paper": paper.fitted[0].held_out_tau,
            "final_percentile_paper": self.truth.percentile(index_of(paper.closed[0].best_code)),
            "tau_auto": auto and self.table_tau(_table(auto)),
            "final_percentile_auto": auto and self.truth.percentile(index_of(auto.closed[0].best_code)),
        }
        print(f"{name:32}", json.dumps(figures), flush=True)
        return figures

    def table_tau(self, predicted_N: Float64Array) -> float | None:
        """Tau of predictions of the whole space."""
        return self.truth.tau(predicted_N, np.arange(len(predicted_N)))

    def of_segments(self, name: str, networks: OneSupernet, dials: Mapping[str, Any]) -> dict[str, Any]:
        """Return where searches of two segments end, with both predictors: means over a few seeds."""
        small = {"segments": TWO_SEGMENTS, "num_sampled": 60, "num_held_out": 10, "num_reevaluated": 10, **dials}
        figures: dict[str, Any] = {}
        for predictor in ("paper", "auto"):
            codes = [self.finished(networks, predictor, small, seed).closed[1].best_code for seed in range(SEEDS)]
            standing = [self.truth.percentile(index_of(code)) for code in codes]
            figures[f"final_percentile_{predictor}"] = round(float(np.mean(standing)), 3)
        print(f"{name:32}", json.dumps(figures), flush=True)
        return figures

    def all(self) -> dict[str, Any]:
        """Turn every dial."""
        base = self.supernet("base", {})
        found = {"base": self.judged("base", base, {})}
        for name, dials in SEARCHES.items():
            doubled = {"num_sampled": 2 * self.sizes.num_sampled} if name == "num_sampled doubled" else {}
            found[name] = self.judged(name, base, {**dials, **doubled})
        for name, dials in SEGMENTS.items():
            found[name] = self.of_segments(name, base, dials)
        for name, dials in TRAININGS.items():
            found[name] = self.judged(name, self.supernet(name, dials), {})
        return found


def main() -> None:
    """Turn the dials and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    full = parser.parse_args().full
    path, root = macro_path(), os.environ.get("NASATLAS_DATA_ROOT")
    if path is None or root is None or not (Path(root) / "cifar10").is_dir():
        print(json.dumps({"skipped": "set NASATLAS_DATA_ROOT to where cifar10/ and nas-bench-macro/cifar10.csv are"}))
        return
    print(json.dumps({"dials": Dials(Path(root), read_truth(path), full=full).all(), "full": full}))


def _with_squeeze_and_excitation(space: SearchSpace) -> SearchSpace:
    """Return the space with squeeze-and-excitation, a quarter wide, in the blocks that learn; codes stay the same."""
    cells = tuple(
        cell.model_copy(
            update={
                "choices": tuple(
                    choice if choice.kind == "identity" else choice.model_copy(update={"se_ratio": 0.25})
                    for choice in cell.choices
                )
            }
        )
        for cell in space.cells
    )
    return space.model_copy(update={"name": f"{space.name}-se", "cells": cells})


def _table(finished: Finished) -> Float64Array:
    return finished.fitted[0].table.predicted_accuracy.astype(np.float64)


if __name__ == "__main__":
    main()
