"""What a few true labels are worth: ranking NAS-Bench-Macro from wrong accuracies and some right ones.

    python -m benchmarks.true_labels            quick: two kinds of error, two seeds, a small GCN
    FULL=1 python -m benchmarks.true_labels     four kinds of error, six seeds (two for the graph)

A supernet's z is made up: the truth's rank with errors of known kind (noise, interactions of two cells, choices held in
too high or low esteem). 600 pairs are fitted by additive ridge and by the GCN; then 0 to 64 architectures get a true
label, one seed of the three. ``tau`` is Kendall's over all 6,561 against the three-seed mean: of the additive
prediction, the GCN's and the corrected one, with the labels of our choice and with as many drawn at random; and of
one graph convolutional network over both kinds of node, the paper's outlook, with 32 labels of our choice
(``graph_32``).
``worst_loss`` is the largest mean loss against the additive prediction. The file is read under ``NASATLAS_DATA_ROOT``;
without it nothing is measured, and the last line, one JSON object, says so.
"""

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from app.domain.rank_correlation import kendall_tau
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_ridge import fit_additive
from benchmarks._fidelity_graph import fidelity_graph, fit_fidelity_graph
from benchmarks._labelled_spaces import Space
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_subspace
from worker.nas.rank_scale import RankScale
from worker.nas.standalone_blend import Labels, fit_standalone_blend
from worker.nas.standalone_choice import choose_standalone

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

NUM_PAIRS, NUM_TOP = 600, 100
NUM_OF_GRAPH, SEEDS_OF_GRAPH = 32, 2
SPACE = Space("nas-bench-macro", 8)
SIZES = (3,) * 8
ERRORS = {
    "noise": (0.0, 0.0, 1.0),
    "interactions": (0.0, 0.8, 0.3),
    "choices": (0.8, 0.2, 0.3),
    "all": (0.3, 0.4, 0.5),
}
"""Standard deviations, in those of the truth's normal score: of choices, of interactions, of noise."""


@dataclass(frozen=True)
class Truth:
    """All architectures: choices, accuracy of each of three trainings, and the mean's normal scores."""

    choices_NL: Int64Array
    accuracy_N3: Float64Array
    scale: RankScale

    @property
    def mean_N(self) -> Float64Array:
        """The truth."""
        return np.asarray(self.accuracy_N3.mean(1))


def read(path: Path) -> Truth:
    """Read the table, in the order of the space's nodes."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    choices_NL = np.array([[int(digit) for digit in row["architecture"]] for row in rows])
    accuracy_N3 = np.array([[float(row[f"acc_seed{i}"]) / 100 for i in range(3)] for row in rows])
    order = np.argsort(SPACE.graph.index(choices_NL))
    return Truth(choices_NL[order], accuracy_N3[order], RankScale.of(accuracy_N3.mean(1)))


def supernet_accuracies(truth: Truth, error: tuple[float, float, float], rng: np.random.Generator) -> Float64Array:
    """Return z of every architecture."""
    choices_NL, num = truth.choices_NL, len(truth.choices_NL)
    esteem = np.sum([rng.normal(size=3)[choices_NL[:, cell]] for cell in range(8)], axis=0)
    mixed = np.zeros(num)
    for cell in range(8):
        for other in range(cell):
            mixed += rng.normal(size=(3, 3))[choices_NL[:, cell], choices_NL[:, other]]
    score = truth.scale.scores(truth.mean_N)
    for size, part in zip(error, (esteem, mixed, rng.normal(size=num)), strict=True):
        score = score + size * (part - part.mean()) / part.std()
    return truth.scale.values(score)


def taus(truth: Truth, error: str, seed: int, numbers: tuple[int, ...], epochs: int) -> dict[str, float]:
    """Return every tau of one made-up supernet."""
    rng = generator(seed, None, f"true labels {error}")
    z_N = supernet_accuracies(truth, ERRORS[error], rng)
    index_N = np.sort(rng.choice(len(z_N), NUM_PAIRS, replace=False))
    additive_N = fit_additive(SIZES, truth.choices_NL[index_N], z_N[index_N]).function.of(truth.choices_NL)
    config = GCNTrainingConfig(hidden_sizes=(128, 128), epochs=epochs)
    graph = fidelity_graph(SPACE.graph, SPACE.features)
    fit = fit_gcn(SPACE.graph, SPACE.features, index_N, z_N[index_N], config, derive_seed(seed, None, "gcn"))
    gcn_N = predict_subspace(fit)
    base_NK = np.stack([RankScale.of(each).scores(each) for each in (additive_N, gcn_N)], axis=1)
    found = {"z": _tau(z_N, truth), "additive": _tau(additive_N, truth), "gcn": _tau(gcn_N, truth)}
    candidates_N = np.union1d(index_N, np.argsort(-gcn_N, kind="stable")[:NUM_TOP])
    for num in numbers:
        ours_N = choose_standalone(base_NK[candidates_N], truth.choices_NL[candidates_N], SIZES, num)
        drawn_N = rng.choice(len(candidates_N), num, replace=False)
        for name, chosen_N in (("ours", ours_N), ("drawn", drawn_N)):
            rows_N = candidates_N[chosen_N]
            if (name, num) == ("ours", NUM_OF_GRAPH) and seed < SEEDS_OF_GRAPH:
                # labels by their rank, as what the additive prediction says of these architectures
                rank_M = rankdata(truth.accuracy_N3[rows_N, 0]) - 1.0
                labelled = rows_N, np.interp(rank_M, np.arange(num), np.sort(additive_N[rows_N]))
                predicted_N = fit_fidelity_graph(graph, (index_N, z_N[index_N]), labelled, epochs, seed)
                found[f"graph_{num}"] = _tau(predicted_N, truth)
            labels = Labels(
                truth.choices_NL[rows_N], base_NK[rows_N], np.zeros(num, dtype=np.int64), truth.accuracy_N3[rows_N, 0]
            )
            corrected_N = fit_standalone_blend(labels, SIZES).corrected(base_NK, truth.choices_NL)
            found[f"{name}_{num}"] = _tau(corrected_N, truth)
    return found


def _tau(predicted_N: NDArray[np.floating], truth: Truth) -> float:
    tau = kendall_tau(predicted_N, truth.mean_N)
    assert tau is not None, "no predictor is constant"
    return tau


def main() -> None:
    """Measure, print a line per kind of error, and the figures."""
    root = os.environ.get("NASATLAS_DATA_ROOT")
    path = Path(root or ".") / "nas-bench-macro" / "cifar10.csv"
    if not (root and path.exists()):
        print(json.dumps({"skipped": "NAS-Bench-Macro's accuracies: set NASATLAS_DATA_ROOT"}))
        return
    full, numbers = os.environ.get("FULL") == "1", (0, 4, 8, 16, 32, 64)
    truth = read(path)
    means = {}
    for error in ERRORS if full else ("noise", "all"):
        found = [taus(truth, error, seed, numbers, 300 if full else 30) for seed in range(6 if full else 2)]
        means[error] = {
            name: round(float(np.mean([one[name] for one in found if name in one])), 4) for name in found[0]
        }
        print(f"{error:12}", "  ".join(f"{name} {value:.3f}" for name, value in means[error].items()), flush=True)
    ours = [f"ours_{num}" for num in numbers]
    figures = {
        "tau": means,
        "worst_loss": round(max(tau["additive"] - tau[name] for tau in means.values() for name in ours), 4),
        "gain_16": round(float(np.mean([tau["ours_16"] - tau["additive"] for tau in means.values()])), 4),
        "graph_loss_32": round(float(np.mean([tau["ours_32"] - tau["graph_32"] for tau in means.values()])), 4),
        "gain_32": round(float(np.mean([tau["ours_32"] - tau["additive"] for tau in means.values()])), 4),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
