"""The predictor ``auto``: additive ridge, Gaussian process and GCNs, blended by how they predict left-out pairs.

Each part is best somewhere. Ridge on the accuracies themselves wins with few and noisy pairs, the process on ranks with
few clean ones, and the GCN where interactions are of high order. All are brought to *scores*, in units of the labels'
normal scores, by monotone links; the scores are blended, and one more link turns the blend into accuracy. The blend's weights explain the
labels by predictions that never saw them, with a prior that trusts the simplest part: a weight moves away from it
only as far as the label noise lets the pairs say so.

A supernet's z also holds its own artefacts, mostly as interactions, which left-out pairs confirm as readily as real ones.
``trust`` is the share of the predicted interactions that is kept.
Legend: N pairs or nodes, M components.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from app.domain.additive_model import AdditiveModel, AdditivePredictor, fit_additive, fit_additive_predictor
from app.domain.hamming_graph import FactorFeatures, Float32Array, Float64Array, HammingGraph, Int64Array
from app.domain.monotone_link import MonotoneLink, normal_scores
from app.domain.rank_correlation import kendall_tau
from app.domain.seeds import generator
from worker.nas.gcn_ensemble import GCNEnsemble, fit_gcn_ensemble
from worker.nas.gcn_prediction import predict_subspace
from worker.nas.gcn_training import GCNTrainingConfig
from worker.nas.prediction_interval import PredictionInterval, calibrate_interval
from worker.nas.product_process import ProcessFit, fit_process

OnAutoProgress = Callable[[float, Mapping[str, Any] | None], None]

MIN_PAIRS = 10

_PROCESS_SHARE, _GCN_SHARE = 0.15, 0.85
_NODES_PER_CHUNK = 16384
_PRIOR_WEIGHT_SD = 0.25
_COMPONENTS = ("ridge", "process_additive", "process_interactions", "gcn")
_PRIOR_WEIGHTS = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class AutoFit:
    """A fitted ``auto`` predictor.

    Attributes:
        ridge: Additive model of the accuracies as they are.
        ridge_link: From its predictions to scores.
        process: Gaussian process on the scores.
        gcns: GCNs on the accuracies.
        gcn_link: From their predictions to scores.
        weights_M: float64, of ridge, the process's additive part, its interactions, and the GCNs.
        trust: Share of the predicted interactions that is kept.
        link: From score to accuracy.
        interval: Of a held-out pair's z around its prediction.
        additive: The additive baseline with its own link: what :mod:`app.domain` can use without torch.
        report: Figures of the fit, as JSON data.
    """

    ridge: AdditiveModel
    ridge_link: MonotoneLink
    process: ProcessFit
    gcns: GCNEnsemble
    gcn_link: MonotoneLink
    weights_M: Float64Array
    trust: float
    link: MonotoneLink
    interval: PredictionInterval
    additive: AdditivePredictor
    report: Mapping[str, Any]

    def predict(self, index_N: Int64Array) -> Float64Array:
        """Return float64 [N], the predicted accuracies of any nodes, also of a space too large to be listed.

        Raises:
            HammingGraphError: If an index is not that of a node.
        """
        graph = self.gcns.members[0].fit.graph
        gcn_N = np.zeros(len(index_N))
        for member in self.gcns.members:
            additive_N, interaction_N = member.predict(index_N)
            gcn_N += (additive_N + self.trust * interaction_N) / len(self.gcns.members)
        return self._accuracies(graph.choices(index_N), gcn_N)

    def predict_subspace(self, on_progress: Callable[[int, int], None] | None = None) -> Float32Array:
        """Return float32 [num_nodes], the predicted accuracy of every architecture of S_t.

        Args:
            on_progress: Called with (nodes done, nodes in all), over all parts; it may raise to cancel.
        """
        graph = self.gcns.members[0].fit.graph
        size, passes = graph.num_nodes, len(self.gcns.members) + 1
        gcn_S = np.zeros(size, dtype=np.float32)
        for number, member in enumerate(self.gcns.members):
            gcn_S += predict_subspace(
                member.fit,
                on_progress and (lambda done, total, number=number: on_progress(done + number * total, passes * total)),
            )
        for start in range(0, size, _NODES_PER_CHUNK):
            nodes = slice(start, min(start + _NODES_PER_CHUNK, size))
            choices_NF = graph.choices(np.arange(nodes.start, nodes.stop, dtype=np.int64))
            gcn_N = self.trust * gcn_S[nodes].astype(np.float64)
            for member in self.gcns.members:
                gcn_N += (1.0 - self.trust) * member.main_effects.predict(choices_NF)
            gcn_S[nodes] = self._accuracies(choices_NF, gcn_N / len(self.gcns.members))
            if on_progress is not None:
                on_progress((passes - 1) * size + nodes.stop, passes * size)
        return gcn_S

    def _accuracies(self, choices_NF: Int64Array, gcn_N: Float64Array) -> Float64Array:
        """The blend of all parts, given what the GCNs say on average."""
        model = self.process.model
        parts = (
            self.ridge_link(self.ridge.predict(choices_NF)),
            model.additive.predict(choices_NF),
            self.trust * model.predict_interactions(choices_NF),
            self.gcn_link(gcn_N),
        )
        return self.link(sum((w * part_N for w, part_N in zip(self.weights_M, parts, strict=True)), np.float64(0)))


def fit_auto(
    graph: HammingGraph,
    features: FactorFeatures,
    index_N: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    trust: float = 1.0,
    on_progress: OnAutoProgress | None = None,
) -> AutoFit:
    """Fit ``auto`` to the sampled pairs. The same seed gives the same predictions, byte for byte, on the same machine.

    Args:
        graph: The graph over S_t (only the GCNs use its edges).
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float64 [N], their accuracies in [0, 1].
        config: Sizes and schedule of the GCNs; together they train for about its epochs.
        seed: Take it from :func:`app.domain.seeds.derive_seed`.
        device: Where the GCNs train; everything else is on the CPU.
        trust: In [0, 1]. 1 for accuracies of networks trained by themselves; less for a supernet's.
        on_progress: Called with the share of the fit done and figures to show; it may raise to cancel.

    Raises:
        ValueError: If there are fewer than ten pairs, lengths differ, an accuracy is not in [0, 1], a node is not in
            S_t, or trust is outside [0, 1].
    """
    index_N, accuracy_N = np.asarray(index_N, dtype=np.int64), np.asarray(accuracy_N, dtype=np.float64)
    _check(index_N, accuracy_N, trust)
    report = on_progress or (lambda _fraction, _details: None)
    choices_NF = graph.choices(index_N)
    target_N = normal_scores(accuracy_N)
    ridge = fit_additive(graph.factor_sizes, choices_NF, accuracy_N)
    ridge_link = MonotoneLink.fit(ridge.left_out_N, target_N, -np.inf, np.inf)
    report(0.01, None)
    process = fit_process(features, choices_NF, target_N, generator(seed, None, "process"))
    report(_PROCESS_SHARE, {"label_noise_share": round(process.noise_variance, 4)})
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
    left_out_MN = np.stack(
        [
            ridge_link(ridge.left_out_N),
            process.left_out_additive_N,
            process.left_out_interaction_N,
            gcn_link(left_out_gcn_N),
        ]
    )
    weights_M = blend_weights(left_out_MN, target_N)
    left_out_MN[2] *= trust
    left_out_MN[3] = gcn_link(left_out_gcn_N - (1.0 - trust) * gcns.left_out_interaction_N)
    score_N = weights_M @ left_out_MN
    link = MonotoneLink.fit(score_N, accuracy_N)
    left_out_N = link(score_N)
    interval = calibrate_interval(left_out_N, accuracy_N)
    additive = fit_additive_predictor(graph.factor_sizes, choices_NF, accuracy_N)
    figures = {
        "num_pairs": len(index_N),
        "trust": trust,
        "weights": {name: round(float(w), 4) for name, w in zip(_COMPONENTS, weights_M, strict=True)},
        "left_out_tau": _tau(left_out_N, accuracy_N),
        "left_out_tau_additive": _tau(additive.left_out_N, accuracy_N),
        "left_out_tau_gcn": _tau(left_out_gcn_N, accuracy_N),
        "interaction_share": round(_interaction_share(process), 4),
        "label_noise": round(_label_noise(process, link, score_N), 6),
        "stopped_epochs": [member.stopped_epoch for member in gcns.members],
        "interval": interval.to_dict(),
    }
    return AutoFit(
        ridge.model, ridge_link, process, gcns, gcn_link, weights_M, trust, link, interval, additive, figures
    )


def blend_weights(left_out_MN: Float64Array, target_N: Float64Array) -> Float64Array:
    """Return float64 [M], weights of at least zero: least squares on left-out predictions, drawn towards the prior.

    The mode of the posterior of weights with a normal prior around the additive parts, where the noise is the error
    of the best single predictor: few or noisy pairs leave the prior, many clean ones decide.

    Args:
        left_out_MN: Predictions of ridge, of the process's two parts, and of the GCNs, each without the pair's label.
        target_N: The labels.
    """
    ridge_N, additive_N, interaction_N, gcn_N = left_out_MN
    errors = [np.mean((target_N - p) ** 2) for p in (ridge_N, additive_N, additive_N + interaction_N, gcn_N)]
    scale = np.sqrt(max(min(errors), 1e-12))
    rows = np.vstack([left_out_MN.T / scale, np.eye(len(left_out_MN)) / _PRIOR_WEIGHT_SD])
    weights_M, _ = nnls(rows, np.concatenate([target_N / scale, _PRIOR_WEIGHTS / _PRIOR_WEIGHT_SD]))
    return np.asarray(weights_M, dtype=np.float64)


def _interaction_share(process: ProcessFit) -> float:
    """Share of the interactions in the variance that the process predicts for left-out pairs."""
    total = process.left_out_additive_N + process.left_out_interaction_N
    return float(np.clip(process.left_out_interaction_N.var() / max(total.var(), 1e-12), 0.0, 1.0))


def _label_noise(process: ProcessFit, link: MonotoneLink, score_N: Float64Array) -> float:
    """Standard deviation of the label noise in accuracy, from the process's in scores."""
    return float(np.sqrt(process.noise_variance * np.mean(link.slope(score_N) ** 2)))


def _tau(predicted_N: Float64Array, accuracy_N: Float64Array) -> float | None:
    tau = kendall_tau(predicted_N, accuracy_N)
    return None if tau is None else round(tau, 4)


def _check(index_N: Int64Array, accuracy_N: Float64Array, trust: float) -> None:
    if len(index_N) != len(accuracy_N):
        raise ValueError(f"{len(index_N)} nodes but {len(accuracy_N)} accuracies; give one accuracy per node")
    if len(index_N) < MIN_PAIRS:
        raise ValueError(f"fitting needs at least {MIN_PAIRS} pairs, got {len(index_N)}; sample more architectures")
    if not np.isfinite(accuracy_N).all() or accuracy_N.min() < 0 or accuracy_N.max() > 1:
        raise ValueError("accuracies are finite fractions from 0 to 1; leave failed pairs out, divide percents by 100")
    if not 0 <= trust <= 1:
        raise ValueError(f"trust is a share from 0 (additive only) to 1 (all interactions), got {trust}")
