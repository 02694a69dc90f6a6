"""The predictor ``auto``: Gaussian processes and GCNs, blended by how they predict left-out pairs.

Each is best somewhere: a process on the labels' ranks with few or clean pairs, a process on the accuracies themselves
with noise, the GCN where interactions are of high order, and the average where they err differently. All are brought
to *scores*, in units of the labels' normal scores, by monotone links; the scores are blended, and one more link turns
the blend into accuracy. The blend's weights explain the labels by predictions that never saw them, with a prior that
trusts the additive parts: a weight moves away from it only as far as the label noise lets the pairs say so.

For accuracies of networks that were trained by themselves. Left-out pairs of a supernet hold its artefacts, and confirm
them: its z are predicted by :mod:`worker.nas.inherited_predictor`.
Legend: N pairs or nodes, M components.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from app.domain.hamming_graph import FactorFeatures, Float32Array, Float64Array, HammingGraph, Int64Array
from app.domain.monotone_link import MonotoneLink, normal_scores
from app.domain.prediction_interval import PredictionInterval, calibrate_interval
from app.domain.rank_correlation import kendall_tau
from app.domain.seeds import generator
from app.domain.whole_space.additive_ridge import fit_additive
from worker.nas.gcn_ensemble import GCNEnsemble, fit_gcn_ensemble
from worker.nas.gcn_prediction import predict_subspace
from worker.nas.gcn_training import GCNTrainingConfig
from worker.nas.product_kernel import standardised
from worker.nas.product_process import ProcessFit, averaged_pairs, check_pairs, fit_process

OnAutoProgress = Callable[[float, Mapping[str, Any] | None], None]

OnNodes = Callable[[int, int], None]

_NUM_FOLDS = 4
_PROCESS_SHARE, _GCN_SHARE = 0.15, 0.85
_NODES_PER_CHUNK = 16384

_PARTS = ("accuracy_additive", "rank_additive", "rank_interactions", "gcn_additive", "gcn_interactions")
_PRIOR_OF_GCN, _PRIOR_OF_ACCURACY = 0.3, 0.5
_PRIOR_WEIGHT_SD = 0.15
_MIN_SIGNAL_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class AutoFit:
    """A fitted ``auto`` predictor.

    Attributes:
        accuracy_process: Gaussian process on the accuracies, centred and scaled; only its additive part is used.
        accuracy_link: From its predictions to scores.
        rank_process: Gaussian process on the scores.
        gcns: GCNs on the accuracies.
        gcn_link: From their predictions to scores.
        weights_M: float64, by which the parts are blended.
        link: From score to accuracy.
        interval: Of a held-out pair's z around its prediction; None: there are too few pairs to say.
        left_out: What would be predicted of each fitted node without its pair.
        report: Figures of the fit, as JSON data.
    """

    accuracy_process: ProcessFit
    accuracy_link: MonotoneLink
    rank_process: ProcessFit
    gcns: GCNEnsemble
    gcn_link: MonotoneLink
    weights_M: Float64Array
    link: MonotoneLink
    interval: PredictionInterval | None
    left_out: Mapping[int, float]
    report: Mapping[str, Any]

    def predict(self, index_N: Int64Array) -> Float64Array:
        """Return float64 [N], the predicted accuracies of any nodes, also of a space too large to be listed.

        Raises:
            HammingGraphError: If an index is not that of a node.
        """
        graph = self.gcns.members[0].fit.graph
        additive_N, interaction_N = np.zeros(len(index_N)), np.zeros(len(index_N))
        for member in self.gcns.members:
            parts = member.predict(index_N)
            additive_N += parts[0]
            interaction_N += parts[1]
        num = len(self.gcns.members)
        return self._accuracies(graph.choices(index_N), additive_N / num, interaction_N / num)

    def predict_subspace(self, on_progress: OnNodes | None = None) -> Float32Array:
        """Return float32 [num_nodes], the predicted accuracy of every architecture of S_t.

        Args:
            on_progress: Called with (nodes done, nodes in all), over all parts; it may raise to cancel.
        """
        graph = self.gcns.members[0].fit.graph
        size, passes = graph.num_nodes, len(self.gcns.members) + 1
        gcn_S = np.zeros(size, dtype=np.float32)
        for number, member in enumerate(self.gcns.members):
            gcn_S += predict_subspace(member.fit, _pass_of(on_progress, number, passes))
        for start in range(0, size, _NODES_PER_CHUNK):
            nodes = slice(start, min(start + _NODES_PER_CHUNK, size))
            choices_NF = graph.choices(np.arange(nodes.start, nodes.stop, dtype=np.int64))
            total_N = gcn_S[nodes] / np.float64(len(self.gcns.members))
            additive_N = np.mean([member.main_effects.of(choices_NF) for member in self.gcns.members], axis=0)
            gcn_S[nodes] = self._accuracies(choices_NF, additive_N, total_N - additive_N)
            if on_progress is not None:
                on_progress((passes - 1) * size + nodes.stop, passes * size)
        return gcn_S

    def _accuracies(
        self, choices_NF: Int64Array, gcn_additive_N: Float64Array, gcn_interaction_N: Float64Array
    ) -> Float64Array:
        """The blend of all parts, given what the GCNs say on average."""
        model = self.rank_process.model
        parts_MN = _parts(
            self.accuracy_link(self.accuracy_process.model.additive.of(choices_NF)),
            (model.additive.of(choices_NF), model.predict_interactions(choices_NF)),
            (gcn_additive_N, gcn_interaction_N),
            self.gcn_link,
        )
        return self.link(self.weights_M @ parts_MN)


def _parts(
    accuracy_N: Float64Array,
    process: tuple[Float64Array, Float64Array],
    gcn: tuple[Float64Array, Float64Array],
    gcn_link: MonotoneLink,
) -> Float64Array:
    """float64 [M, N], the scores that are blended, in the order of ``_PARTS``."""
    additive_N = gcn_link(gcn[0])
    return np.stack([accuracy_N, *process, additive_N, gcn_link(gcn[0] + gcn[1]) - additive_N])


def _pass_of(on_progress: OnNodes | None, number: int, passes: int) -> OnNodes | None:
    """What passes the progress of one pass over the nodes on as that of all."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(done + number * total, passes * total)


def fit_auto(
    graph: HammingGraph,
    features: FactorFeatures,
    index_N: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    on_progress: OnAutoProgress | None = None,
) -> AutoFit:
    """Fit ``auto`` to the sampled pairs. The same seed gives the same predictions, byte for byte, on the same machine.

    Args:
        graph: The graph over S_t (only the GCNs use its edges).
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float64 [N], their accuracies in [0, 1].
        config: Sizes and schedule of the GCNs; together they train for up to four times its epochs.
        seed: Take it from :func:`app.domain.seeds.derive_seed`.
        device: Where the GCNs train; everything else is on the CPU.
        on_progress: Called with the share of the fit done and figures to show; it may raise to cancel.

    Raises:
        ValueError: If there are fewer than ten distinct pairs, lengths differ, an accuracy is not in [0, 1], or a
            node is not in S_t.
    """
    index_N, accuracy_N = np.asarray(index_N, dtype=np.int64), np.asarray(accuracy_N, dtype=np.float64)
    check_pairs(index_N, accuracy_N)
    index_N, accuracy_N = averaged_pairs(index_N, accuracy_N)
    check_pairs(index_N, accuracy_N)
    report = on_progress or (lambda _fraction, _details: None)
    choices_NF = graph.choices(index_N)
    target_N = normal_scores(accuracy_N)
    accuracy_process = fit_process(
        features,
        choices_NF,
        standardised(accuracy_N),
        generator(seed, None, "accuracy process"),
        lambda: report(0.0, None),
    )
    accuracy_link = MonotoneLink.fit(accuracy_process.left_out_additive_N, target_N, -np.inf, np.inf)
    report(_PROCESS_SHARE / 2, None)
    rank_process = fit_process(
        features,
        choices_NF,
        target_N,
        generator(seed, None, "rank process"),
        lambda: report(_PROCESS_SHARE / 2, None),
    )
    report(_PROCESS_SHARE, {"label_noise_share": round(rank_process.noise_variance, 4)})
    gcns = fit_gcn_ensemble(
        graph,
        features,
        index_N,
        accuracy_N,
        config,
        generator(seed, None, "gcn ensemble"),
        device,
        lambda fraction: report(_PROCESS_SHARE + _GCN_SHARE * fraction, None),
    )
    left_out_gcn_N = gcns.left_out_additive_N + gcns.left_out_interaction_N
    gcn_link = MonotoneLink.fit(left_out_gcn_N, target_N, -np.inf, np.inf)
    left_out_MN = _parts(
        accuracy_link(accuracy_process.left_out_additive_N),
        (rank_process.left_out_additive_N, rank_process.left_out_interaction_N),
        (gcns.left_out_additive_N, gcns.left_out_interaction_N),
        gcn_link,
    )
    noise_share = min(rank_process.noise_variance, 1.0)
    weights_M = blend_weights(left_out_MN, target_N, noise_share)
    score_N = weights_M @ left_out_MN
    link = MonotoneLink.fit(score_N, accuracy_N)
    left_out_N = _cross_fitted(left_out_MN, target_N, accuracy_N, noise_share, generator(seed, None, "blend folds"))
    interval = calibrate_interval(left_out_N, accuracy_N)
    additive = fit_additive(graph.factor_sizes, choices_NF, accuracy_N)
    figures = {
        "num_pairs": len(index_N),
        "num_conditioned": rank_process.num_pairs,
        "weights": {name: round(float(w), 4) for name, w in zip(_PARTS, weights_M, strict=True)},
        "left_out_tau": _tau(left_out_N, accuracy_N),
        "left_out_tau_additive": _tau(additive.left_out_N, accuracy_N),
        "left_out_tau_gcn": _tau(left_out_gcn_N, accuracy_N),
        "interaction_share": round(rank_process.interaction_share, 4),
        "label_noise": round(_label_noise(rank_process, link, score_N), 6),
        "stopped": [round(share, 4) for share in gcns.stopped],
        "interval": interval and interval.to_dict(),
    }
    left_out = dict(zip(index_N.tolist(), left_out_N.tolist(), strict=True))
    return AutoFit(
        accuracy_process, accuracy_link, rank_process, gcns, gcn_link, weights_M, link, interval, left_out, figures
    )


def prior_weights(noise_share: float) -> Float64Array:
    """Return float64 [M], the blend before any label: additive, most of it from the processes.

    These fit a few strengths where a GCN fits tables of weights, so the more of the labels is noise, the less comes
    from the GCN; and the more from the process on the accuracies themselves, up to half of what the processes have:
    a rank forgets which labels stand out from the noise.

    Args:
        noise_share: Of the labels' variance.
    """
    gcn = _PRIOR_OF_GCN * (1.0 - noise_share)
    accuracy = _PRIOR_OF_ACCURACY * noise_share * (1.0 - gcn)
    return np.array([accuracy, 1.0 - gcn - accuracy, 0.0, gcn, 0.0])


def blend_weights(left_out_MN: Float64Array, target_N: Float64Array, noise_share: float) -> Float64Array:
    """Return float64 [M], weights of at least zero: least squares on left-out predictions, drawn towards the prior.

    The mode of the posterior of weights with a normal prior around the additive parts, where the noise is the error
    of the best single predictor: few or noisy pairs leave the prior, many clean ones decide. The prior itself is the
    narrower the more of the labels is noise: left-out errors are not independent, because each pair's noise is in the
    predictions of all others, so that they tell the parts apart less well than their number promises.

    Args:
        left_out_MN: float64, what the parts say of each pair without its label; see ``_parts``.
        target_N: float64, the labels.
        noise_share: Of their variance.
    """
    prior_sd = _PRIOR_WEIGHT_SD * max(1.0 - noise_share, _MIN_SIGNAL_SHARE)
    accuracy_N, process_N, gcn_N = left_out_MN[0], left_out_MN[1:3], left_out_MN[3:5]
    predictions = (accuracy_N, process_N[0], process_N.sum(0), gcn_N[0], gcn_N.sum(0))
    scale = np.sqrt(max(min(np.mean((target_N - predicted_N) ** 2) for predicted_N in predictions), 1e-12))
    prior_M = prior_weights(noise_share)
    rows = np.vstack([left_out_MN.T / scale, np.eye(len(left_out_MN)) / prior_sd])
    weights_M, _ = nnls(rows, np.concatenate([target_N / scale, prior_M / prior_sd]))
    return np.asarray(weights_M, dtype=np.float64)


def _cross_fitted(
    left_out_MN: Float64Array,
    target_N: Float64Array,
    accuracy_N: Float64Array,
    noise_share: float,
    rng: np.random.Generator,
) -> Float64Array:
    """float64 [N], accuracies by weights and links that were chosen without each pair, for honest intervals."""
    fold_N = rng.permutation(np.arange(len(target_N)) % _NUM_FOLDS)
    predicted_N = np.empty(len(target_N))
    for fold in range(_NUM_FOLDS):
        left = fold_N == fold
        score_N = blend_weights(left_out_MN[:, ~left], target_N[~left], noise_share) @ left_out_MN
        predicted_N[left] = MonotoneLink.fit(score_N[~left], accuracy_N[~left])(score_N[left])
    return predicted_N


def _label_noise(process: ProcessFit, link: MonotoneLink, score_N: Float64Array) -> float:
    """Standard deviation of the label noise in accuracy, from the process's in scores."""
    return float(np.sqrt(process.noise_variance * np.mean(link.slope(score_N) ** 2)))


def _tau(predicted_N: Float64Array, accuracy_N: Float64Array) -> float | None:
    tau = kendall_tau(predicted_N, accuracy_N)
    return None if tau is None else round(tau, 4)
