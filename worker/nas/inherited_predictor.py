"""The predictor ``auto`` for accuracies that a supernet passes on to its sub-networks: a nearly additive process.

A supernet's z holds its own artefacts, cells that cooperate in it and nowhere else. They are interactions, they are
in the left-out pairs as well as in the fitted ones, and no pair tells them from real interactions. So a Gaussian
process is fitted with interactions, that these do not pass for additive effects or noise, and a quarter of them enters
the predictions, less where labels are noisy: over NAS-Bench-Macro a supernet's pairs rank the truth better that way
than by ridge regression, the paper's GCN, the additive part alone, or the whole process; see ``docs/adr``. Where the
pairs say that accuracies saturate, the process is fitted to their efforts (:mod:`app.domain.saturation`).
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
from worker.nas.product_kernel import OnStep, standardised
from worker.nas.product_process import averaged_pairs, check_pairs, fit_process
from worker.nas.saturation_choice import choose_saturation

INTERACTION_SHARE = 0.25
"""Of clean labels. A tenth to a half were all better than none on one supernet, and a little worse on a bad one."""


@dataclass(frozen=True, eq=False)
class InheritedFit:
    """A fitted, nearly additive predictor with a monotone link to accuracy.

    Attributes:
        model: The process with the share of its interactions, in standard deviations of the labels (or their efforts).
        link: From it to accuracy.
        interval: Of a held-out pair's z around its prediction; None: there are too few pairs to say.
        report: Figures of the fit, as JSON data.
    """

    model: FactorialModel
    link: MonotoneLink
    interval: PredictionInterval | None
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
    target_N = standardised(effort_N)
    process = fit_process(features, choices_NF, target_N, generator(seed, None, "process"), on_step)
    share = INTERACTION_SHARE * max(0.0, 1.0 - process.noise_variance)
    score_N = process.left_out_additive_N + share * process.left_out_interaction_N
    link = MonotoneLink.fit(score_N, accuracy_N)
    left_out_N = cross_fitted(score_N, accuracy_N, generator(seed, None, "link folds"))
    interval = calibrate_interval(left_out_N, accuracy_N)
    report = {
        "num_pairs": len(index_N),
        "num_conditioned": process.num_pairs,
        "label_noise": round(
            saturation.deviation(float(np.sqrt(process.noise_variance) * effort_N.std()), effort_N), 6
        ),
        "ceiling": saturation.ceiling,
        "interaction_share": round(process.interaction_share, 4),
        "interactions_kept": round(share, 4),
    }
    return InheritedFit(process.model.with_share(share), link, interval, report)
