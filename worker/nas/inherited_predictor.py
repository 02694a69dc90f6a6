"""The predictor ``auto`` for accuracies that a supernet passes on to its sub-networks: a nearly additive process.

A supernet's z holds its own artefacts, cells that cooperate in it and nowhere else. They are interactions, they are
in the left-out pairs as well as in the fitted ones, and no pair tells them from real interactions. So a Gaussian
process is fitted with interactions, that these do not pass for additive effects or noise, and a quarter of them enters
the predictions, less where labels are noisy, and all where a few pairs of choices break networks. Over NAS-Bench-Macro
a supernet's pairs rank the truth better that way than by ridge regression, the paper's GCN, the additive part alone, or
the whole process; see ``docs/adr``. Where the pairs say that accuracies saturate, the process is fitted to their
efforts (:mod:`app.domain.saturation`).
Legend: N pairs or nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain.factorial_model import FactorialModel
from app.domain.hamming_graph import FactorFeatures, Float32Array, Float64Array, HammingGraph, Int64Array
from app.domain.monotone_link import MonotoneLink, cross_fitted
from app.domain.prediction_interval import PredictionInterval, calibrate_interval
from app.domain.seeds import generator
from worker.nas.product_kernel import OnStep
from worker.nas.product_process import averaged_pairs, check_pairs
from worker.nas.robust_process import RobustFit, fit_robust_process
from worker.nas.saturation_choice import choose_saturation

INTERACTION_SHARE = 0.25
"""Of usual labels. A tenth to a half were all better than none on one supernet, and a little worse on a bad one."""

_STANDS_OUT = 15.0
"""Times the usual: how large the effects of two cells together are against those of other two."""
_CONCENTRATED, _EXPLAINED = (0.5, 0.9), (0.1, 0.3)
"""Between these shares, of the interactions' variance that stands out, and of left-out labels' variance that
interactions explain, what is kept rises to all."""


@dataclass(frozen=True, eq=False)
class InheritedFit:
    """A fitted, nearly additive predictor with a monotone link to accuracy.

    Attributes:
        model: The process with the share of its interactions, in standard deviations of the labels (or their efforts).
        link: From it to accuracy.
        interval: Of a held-out pair's z around its prediction; None: there are too few pairs to say.
        left_out: What would be predicted of each fitted node without its pair.
        report: Figures of the fit, as JSON data.
    """

    model: FactorialModel
    link: MonotoneLink
    interval: PredictionInterval | None
    left_out: Mapping[int, float]
    report: Mapping[str, Any]

    def predict(self, choices_NF: Int64Array) -> Float64Array:
        """Return float64 [N], the predicted accuracies of the nodes with these factor choices."""
        return self.link(self.model.additive.of(choices_NF) + self.model.predict_interactions(choices_NF))

    def predict_subspace(self) -> Float32Array:
        """Return float32 [num_nodes], the predicted accuracy of every architecture of S_t."""
        return self.whole_space().astype(np.float32)

    def whole_space(self) -> Float64Array:
        """Return float64 [num_nodes], the same before it is rounded for a table."""
        return self.link(self.model.whole_space())


def fit_inherited(
    graph: HammingGraph,
    features: FactorFeatures,
    index_N: Int64Array,
    accuracy_N: Float64Array,
    seed: int,
    on_step: OnStep | None = None,
) -> InheritedFit:
    """Fit to a supernet's pairs. The same seed gives the same predictions, byte for byte, on the same machine.

    Args:
        graph: The graph over S_t; only its factors are used.
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float64 [N], their z in [0, 1].
        seed: Take it from :func:`app.domain.seeds.derive_seed`.
        on_step: Called every few milliseconds; it may raise to cancel.

    Raises:
        ValueError: If there are fewer than ten distinct pairs, lengths differ, or an accuracy is not in [0, 1].
    """
    index_N, accuracy_N = np.asarray(index_N, dtype=np.int64), np.asarray(accuracy_N, dtype=np.float64)
    check_pairs(index_N, accuracy_N)
    index_N, accuracy_N = averaged_pairs(index_N, accuracy_N)
    check_pairs(index_N, accuracy_N)
    choices_NF = graph.choices(index_N)
    saturation = choose_saturation(features, choices_NF, accuracy_N, generator(seed, None, "saturation"), on_step)
    effort_N = saturation.effort(accuracy_N)
    fit = fit_robust_process(features, choices_NF, effort_N, generator(seed, None, "process"), on_step)
    process, share = fit.process, kept_share(fit)
    believed_N = np.where(fit.is_moved_N, np.clip(saturation.accuracy(fit.believed_N), 0.0, 1.0), accuracy_N)
    score_N = process.left_out_additive_N + share * process.left_out_interaction_N
    link = MonotoneLink.fit(score_N, believed_N)
    left_out_N = cross_fitted(score_N, believed_N, generator(seed, None, "link folds"))
    interval = calibrate_interval(left_out_N, accuracy_N)
    report = {
        "num_pairs": len(index_N),
        "num_conditioned": process.num_pairs,
        "num_outlying": int(fit.is_moved_N.sum()),
        "label_noise": round(saturation.deviation(fit.noise, fit.believed_N), 6),
        "ceiling": saturation.ceiling,
        "interaction_share": round(process.interaction_share, 4),
        "interactions_kept": round(share, 4),
    }
    left_out = dict(zip(index_N.tolist(), left_out_N.tolist(), strict=True))
    return InheritedFit(process.model.with_share(share), link, interval, left_out, report)


def kept_share(fit: RobustFit) -> float:
    """Return how much of the interactions is kept, from 0 to 1: a quarter, and all where a few pairs break networks.

    How much they explain is no reason by itself: artefacts of a supernet with stale BN statistics explained 15 % of the
    variance, and the less noise labels have, the better are artefacts known. But they are spread over all cells, and a
    breakage is between two.
    """
    broken = _risen(_concentration(fit.process.model), _CONCENTRATED) * _risen(
        fit.explained_by_interactions, _EXPLAINED
    )
    return (INTERACTION_SHARE + (1.0 - INTERACTION_SHARE) * broken) * max(0.0, 1.0 - fit.process.noise_variance)


def _concentration(model: FactorialModel) -> float:
    """Share of the pairwise interactions' variance that is between cells whose interactions stand out."""
    variance_T = np.array([np.mean(i.table**2) for i in model.interactions if len(i.factors) == 2])
    if not variance_T.any():
        return 0.0
    return float(variance_T[variance_T > _STANDS_OUT**2 * np.median(variance_T)].sum() / variance_T.sum())


def _risen(value: float, between: tuple[float, float]) -> float:
    """How far a value has risen between two others, from 0 to 1."""
    return float(np.clip((value - between[0]) / (between[1] - between[0]), 0.0, 1.0))
