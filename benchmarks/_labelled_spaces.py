"""The spaces, labels and fits of ``benchmarks.space_lookup`` and ``benchmarks.predictor``; not a benchmark itself."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.gray_code import bit_tables
from app.domain.hamming_graph import FactorFeatures, HammingGraph
from app.domain.multi_adds import cell_costs, fixed_cost
from app.domain.search_space import preset
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.additive_ridge import fit_additive
from app.domain.whole_space.hamming_gcn import HammingGCN
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """The first cells of a preset, and their costs."""

    name: str
    num_cells: int

    @property
    def bits(self) -> tuple[NDArray[np.float32], ...]:
        """The Gray bits of every cell."""
        return bit_tables(preset(self.name))[: self.num_cells]

    @property
    def graph(self) -> HammingGraph:
        """The graph of all its architectures."""
        return HammingGraph.assigned(tuple(len(table) for table in self.bits))

    @property
    def features(self) -> FactorFeatures:
        """The bits of every cell at their place among all bits."""
        ends = np.cumsum([table.shape[1] for table in self.bits])
        tables = (
            np.pad(table, ((0, 0), (end - table.shape[1], ends[-1] - end)))
            for table, end in zip(self.bits, ends.tolist(), strict=True)
        )
        return FactorFeatures(np.zeros(ends[-1], dtype=np.float32), tuple(tables))

    def costs(self) -> dict[str, AdditiveFunction]:
        """Multi-adds, parameters, and the latency of a made-up device."""
        space, rng = preset(self.name), generator(0, None, "latency")
        fixed, cells = fixed_cost(space), cell_costs(space)[: self.num_cells]
        multi_adds = [np.array([float(choice.multi_adds) for choice in cell]) for cell in cells]
        params = [np.array([float(choice.params) for choice in cell]) for cell in cells]
        latency = [rng.uniform(0.5, 2) * 1e-7 * table + rng.uniform(0.1, 0.5, len(table)) for table in multi_adds]
        return {
            "multi_adds": AdditiveFunction(fixed.multi_adds, tuple(multi_adds)),
            "params": AdditiveFunction(fixed.params, tuple(params)),
            "latency_ms": AdditiveFunction(2.0, tuple(latency)),
        }


@dataclass(frozen=True)
class Labels:
    """Which architectures were measured and what came out."""

    name: str
    space: Space
    index_N: Int64Array
    accuracy_N: Float64Array
    seed: int


def macro_labels(path: Path, num_sampled: int, seed: int) -> Labels:
    """Return true accuracies of NAS-Bench-Macro with noise of 0.5 points."""
    space, rng = Space("nas-bench-macro", 8), generator(seed, None, "macro labels")
    index_N, truth_N = macro_truth(path)
    chosen = rng.permutation(len(index_N))[:num_sampled]
    accuracy_N = truth_N[chosen] + rng.normal(0, 0.005, num_sampled)
    return Labels(f"macro-{num_sampled}", space, index_N[chosen], accuracy_N, seed)


def macro_path() -> Path | None:
    """Return where NAS-Bench-Macro's accuracies are, under ``NASATLAS_DATA_ROOT``; None where they are not."""
    root = os.environ.get("NASATLAS_DATA_ROOT")
    path = Path(root or ".") / "nas-bench-macro" / "cifar10.csv"
    return path if root and path.exists() else None


def macro_truth(path: Path) -> tuple[Int64Array, Float64Array]:
    """Return int64 [N], the nodes of NAS-Bench-Macro in the file's order, and float64 [N], means of their 3 seeds."""
    index_N, accuracy_N3 = macro_seeds(path)
    return index_N, accuracy_N3.mean(1)


def macro_seeds(path: Path) -> tuple[Int64Array, Float64Array]:
    """Return int64 [N], the nodes of NAS-Bench-Macro in the file's order, and float64 [N, 3], one per training."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    choices = np.array([[int(digit) for digit in row["architecture"]] for row in rows])
    accuracy_N3 = np.array([[float(row[f"acc_seed{i}"]) / 100 for i in range(3)] for row in rows])
    return Space("nas-bench-macro", 8).graph.index(choices), accuracy_N3


def synthetic_labels(num_cells: int, num_sampled: int, seed: int) -> Labels:
    """Return accuracies with strong interactions between every two cells, and noise of 0.3 points."""
    space, rng = Space("fairnas", num_cells), generator(seed, None, "synthetic labels")
    index_N = np.unique(rng.integers(0, space.graph.num_nodes, num_sampled))
    total = _interacting(space.graph.choices(index_N), rng)
    return Labels(
        f"synthetic-{num_sampled}", space, index_N, 0.7 + 0.02 * total + rng.normal(0, 0.003, len(total)), seed
    )


def strong_interactions(num_cells: int, seed: int) -> Float64Array:
    """Return the made-up accuracies of all 6^num_cells architectures, by node: 0.7 with a spread of 2 points."""
    graph = Space("fairnas", num_cells).graph
    choices = graph.choices(np.arange(graph.num_nodes, dtype=np.int64))
    return np.asarray(0.7 + 0.02 * _interacting(choices, generator(seed, None, "strong interactions")))


def _interacting(choices_NL: Int64Array, rng: np.random.Generator, strength: float = 1.4) -> Float64Array:
    """float64 [N] of mean zero and unit variance: a term per cell, and one per two cells (by default as large)."""
    num_cells = choices_NL.shape[1]
    total = np.zeros(len(choices_NL))
    for cell in range(num_cells):
        rise = (0.6 * (np.arange(6) % 3) + 1.2 * (np.arange(6) // 3)) * rng.uniform(0.3, 1.5)
        total += (rise + rng.normal(0, 0.3, 6))[choices_NL[:, cell]]
        for other in range(cell):
            total += rng.normal(0, strength / np.sqrt(num_cells), (6, 6))[choices_NL[:, cell], choices_NL[:, other]]
    return np.asarray((total - total.mean()) / total.std())


@dataclass(frozen=True)
class MadeUpSearch:
    """Three rounds over the whole FairNAS space, whose accuracies saturate or not, and interact by pairs of cells.

    Attributes:
        ceiling: The accuracy that no architecture reaches; None: accuracies do not saturate.
        seed: Of everything.
    """

    ceiling: float | None
    seed: int

    NOISE = 0.004
    NUM_SAMPLED, NUM_SEEN, NUM_PRESERVED = 300, 2000, 6

    def accuracy(self, choices_NL: Int64Array) -> Float64Array:
        """Return float64 [N], what a perfect evaluation would say."""
        whole_rng = generator(self.seed, None, "made-up architectures")
        both = np.concatenate([choices_NL, whole_rng.integers(0, 6, (5000, 19))])
        # the uniform architectures only set the scale
        effort_N = _interacting(both, generator(self.seed, None, "made-up search"), 0.3)
        effort_N = (effort_N - effort_N[len(choices_NL) :].mean()) / effort_N[len(choices_NL) :].std()
        accuracy_N = 0.7 + 0.03 * effort_N if self.ceiling is None else self.ceiling - 0.06 * np.exp(-0.8 * effort_N)
        return np.asarray(accuracy_N[: len(choices_NL)])

    def noisy(self, choices_NL: Int64Array, purpose: str) -> Float64Array:
        """Return float64 [N], what an evaluation says."""
        noise_N = generator(self.seed, None, purpose).normal(0, self.NOISE, len(choices_NL))
        return np.clip(self.accuracy(choices_NL) + noise_N, 0, 1)

    def pairs(self) -> tuple[Int64Array, Float64Array]:
        """Return int64 [N, 19] and float64 [N], the distinct pairs of three rounds that start from all K3E6."""
        rng, preserved = generator(self.seed, None, "made-up rounds"), np.full((1, 19), 3)
        found = []
        for segment in preset("fairnas").segments:
            seen = preserved[rng.integers(0, len(preserved), self.NUM_SEEN)]
            seen[:, segment] = rng.integers(0, 6, (self.NUM_SEEN, len(segment)))
            found.append(seen[: self.NUM_SAMPLED])
            preserved = seen[np.argsort(-self.noisy(seen, f"round {len(found)}"))[: self.NUM_PRESERVED]]
        choices_NL = np.unique(np.concatenate(found), axis=0)
        return choices_NL, self.noisy(choices_NL, "pairs")


def fitted(labels: Labels, hidden_sizes: tuple[int, int], epochs: int) -> tuple[AdditiveFunction, HammingGCN]:
    """Return a ridge regression and a GCN fitted to the same labels."""
    graph, config = labels.space.graph, GCNTrainingConfig(hidden_sizes=hidden_sizes, epochs=epochs)
    seed = derive_seed(labels.seed, None, "gcn")
    fit = fit_gcn(graph, labels.space.features, labels.index_N, labels.accuracy_N, config, seed)
    state = {name: tensor.numpy() for name, tensor in fit.module.state_dict().items()}
    additive = fit_additive(graph.factor_sizes, graph.choices(labels.index_N), labels.accuracy_N)
    return additive.function, HammingGCN.from_state_dict(labels.space.bits, state)
