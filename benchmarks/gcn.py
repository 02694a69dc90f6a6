"""Fitting a subspace and predicting its table, against PyG's ``GCNConv`` on a CSR adjacency.

    python -m benchmarks.gcn            quick: 6^5 nodes against PyG, 6^6 in the place of 6^8
    python -m benchmarks.gcn --full     the paper's 6^7 nodes and 1,800 pairs (or FULL=1 in the environment)

The plain side keeps the normalised adjacency as a CSR tensor, as PyG advises, and computes all nodes in every epoch,
as full-batch training does. Both sides make one Adam update per epoch from the same weights; losses, outputs and
gradients are compared first. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import l1_loss

from app.domain.hamming_graph import FactorFeatures, HammingGraph, Int64Array
from app.domain.seeds import derive_seed, generator
from benchmarks._timing import median_seconds
from worker.nas.gcn import GCN, ReferenceGCN, explicit_graph, normalised_csr
from worker.nas.gcn_prediction import GCNFit
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_nodes, predict_subspace, train_epoch
from worker.nas.receptive_field import receptive_field

SEED = 0
NUM_CELLS = 19
REPEATS = 5
TOLERANCE = 1e-5
GRAY_BITS = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=np.float32)


@dataclass(frozen=True)
class Sizes:
    """How much is measured: active cells of the fitted subspace, its pairs, and active cells of the larger one."""

    num_active: int
    num_pairs: int
    num_active_large: int

    @classmethod
    def of(cls, full: bool) -> "Sizes":
        """Return the issue's sizes, or quick ones."""
        return cls(7, 1800, 8) if full else cls(5, 600, 6)


@dataclass(frozen=True)
class Case:
    """A subspace of the paper's space with sampled pairs."""

    graph: HammingGraph
    features: FactorFeatures
    index_N: Int64Array
    accuracy_N: NDArray[np.float64]

    @classmethod
    def of(cls, num_active: int, num_pairs: int) -> "Case":
        """Return a subspace of the first ``num_active`` cells, and pairs with a realistic spread and noise."""
        tables = []
        for cell_index in range(num_active):
            table = np.zeros((6, 3 * NUM_CELLS), dtype=np.float32)
            table[:, 3 * cell_index : 3 * cell_index + 3] = GRAY_BITS
            tables.append(table)
        constant = np.zeros(3 * NUM_CELLS, dtype=np.float32)
        constant[3 * num_active + 2 :: 3] = 1.0
        graph = HammingGraph.assigned((6,) * num_active)
        rng = generator(SEED, None, "benchmark")
        index_N = np.unique(rng.integers(0, graph.num_nodes, 2 * num_pairs))
        index_N = np.sort(rng.permutation(index_N)[:num_pairs])
        kernel_NF, expansion_NF = graph.choices(index_N) % 3, graph.choices(index_N) // 3
        accuracy_N = 0.6 + (0.004 * kernel_NF + 0.008 * expansion_NF).mean(1) + rng.normal(0, 0.002, num_pairs)
        return cls(graph, FactorFeatures(constant, tuple(tables)), index_N, accuracy_N)


def main() -> None:
    """Measure, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--alone", choices=sorted(ALONE), help="measure only this part; used for the peak memory")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Sparse (CSR|invariant)")
    sizes = Sizes.of(arguments.full)
    figures = ALONE[arguments.alone](sizes) if arguments.alone else all_figures(sizes, arguments.full)
    print(json.dumps(figures))


def all_figures(sizes: Sizes, full: bool) -> dict[str, float | int | bool]:
    """Return every figure of the issue, with the sizes that they belong to."""
    print(f"{6**sizes.num_active:,} nodes, {sizes.num_pairs:,} pairs, {torch.get_num_threads()} threads", flush=True)
    alone: dict[str, float] = {}
    for part in ALONE:
        command = [sys.executable, "-m", "benchmarks.gcn", "--alone", part, *(["--full"] if full else [])]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        alone |= json.loads(output.splitlines()[-1])
        print(f"{part} in a process of its own: {alone}", flush=True)
    figures = per_epoch(Case.of(sizes.num_active, sizes.num_pairs)) | alone
    figures["fit_whole_space_epoch_s"] = whole_space_epoch(sizes.num_pairs)
    return figures | {
        "full": full,
        "num_nodes": 6**sizes.num_active,
        "num_nodes_large": 6**sizes.num_active_large,
        "num_pairs": sizes.num_pairs,
        "threads": torch.get_num_threads(),
    }


def own_side(sizes: Sizes) -> dict[str, float]:
    """Fit for 600 epochs and predict the table, in a process that has never held PyG's graph."""
    case = Case.of(sizes.num_active, sizes.num_pairs)
    started = time.perf_counter()
    fit = fit_gcn(case.graph, case.features, case.index_N, case.accuracy_N, GCNTrainingConfig(), SEED)
    fit_s = time.perf_counter() - started
    predict_s = median_seconds(lambda: predict_subspace(fit))
    return {"fit_600_epochs_s": round(fit_s, 2), "predict_s": round(predict_s, 3), "peak_rss_mb": peak_rss_mb()}


def peak_rss_mb() -> int:
    """Return the largest resident memory of this process since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def per_epoch(case: Case) -> dict[str, float]:
    """Time one epoch of either side, turn by turn, after checking that both compute the same."""
    module = GCN(case.features.num_bits, generator=torch.Generator().manual_seed(derive_seed(SEED, None, "gcn")))
    reference = ReferenceGCN(case.features.num_bits, normalize=False)
    reference.load_state_dict(module.state_dict())
    field = receptive_field(case.graph, case.features, case.index_N, "cpu")
    data = explicit_graph(case.graph, case.features)
    adjacency = normalised_csr(data)
    target_N = torch.as_tensor(case.accuracy_N, dtype=torch.float32)
    labelled = torch.as_tensor(case.index_N)
    own_optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=5e-4)
    reference_optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, weight_decay=5e-4)

    def reference_epoch() -> None:
        reference_optimizer.zero_grad()
        loss = l1_loss(reference(data.x, adjacency)[labelled], target_N)
        loss.backward()  # type: ignore[no-untyped-call]
        reference_optimizer.step()

    difference = largest_difference(module(field), reference(data.x, adjacency)[labelled], target_N, module, reference)
    print(f"outputs, loss and gradients agree to {difference:.1e}", flush=True)
    if difference > TOLERANCE:
        raise SystemExit(f"the two sides differ by {difference:.1e}, more than {TOLERANCE:.0e}: no speed is reported")
    own_s, reference_s = alternating_medians(
        lambda: train_epoch(module, field, target_N, own_optimizer), reference_epoch
    )
    print(f"an epoch: PyG {reference_s:.3f} s, ours {own_s:.4f} s", flush=True)
    return {
        "speedup_per_epoch": round(reference_s / own_s, 1),
        "epoch_s": round(own_s, 4),
        "pyg_epoch_s": round(reference_s, 3),
        "largest_difference": difference,
    }


def largest_difference(
    own_N: torch.Tensor, reference_N: torch.Tensor, target_N: torch.Tensor, own: GCN, reference: ReferenceGCN
) -> float:
    """Return the largest difference of outputs, losses and gradients, each relative to its largest value."""
    losses = [l1_loss(own_N, target_N), l1_loss(reference_N, target_N)]
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    compared = [(own_N, reference_N), (losses[0], losses[1])]
    for parameter, other in zip(own.parameters(), reference.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        compared.append((parameter.grad, other.grad))
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in compared)


def predict_large(sizes: Sizes) -> dict[str, float]:
    """Predict the table of a larger subspace, with the weights of a fresh network."""
    case = Case.of(sizes.num_active_large, 2)
    module = GCN(case.features.num_bits, generator=torch.Generator().manual_seed(SEED)).requires_grad_(False)
    fit = GCNFit(module, case.graph, case.features, np.zeros(0), torch.device("cpu"))
    predicted_N = predict_subspace(fit)
    some = generator(SEED, None, "check").integers(0, case.graph.num_nodes, 50)
    if not np.allclose(predict_nodes(fit, some), predicted_N[some], rtol=TOLERANCE, atol=TOLERANCE):
        raise SystemExit("the table and the nodes one by one differ")
    seconds = median_seconds(lambda: predict_subspace(fit))
    return {"predict_6_8_s": round(seconds, 3), "peak_rss_6_8_mb": peak_rss_mb()}


def whole_space_epoch(num_pairs: int) -> float:
    """Return the median seconds of an epoch over pairs drawn from all 6^19 architectures."""
    case = Case.of(NUM_CELLS, num_pairs)
    ends = [time.perf_counter()]
    config = GCNTrainingConfig(epochs=2 * REPEATS)
    fit_gcn(
        case.graph,
        case.features,
        case.index_N,
        case.accuracy_N,
        config,
        SEED,
        on_epoch=lambda _epoch, _loss: ends.append(time.perf_counter()),
    )
    seconds = statistics.median(end - start for start, end in pairwise(ends[1:]))
    print(f"an epoch on all of 6^19: {seconds:.3f} s", flush=True)
    return round(seconds, 4)


def alternating_medians(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return both medians of five, taken turn by turn so that a busy machine slows both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(REPEATS + 1):
        for action, kept in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            action()
            if turn:
                kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


ALONE: dict[str, Callable[[Sizes], dict[str, float]]] = {"fit": own_side, "predict a larger subspace": predict_large}

if __name__ == "__main__":
    main()
