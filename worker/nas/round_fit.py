"""Step 2 of a round: the configured predictor fitted to the round's pairs, and its prediction of the subspace."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import numpy as np
import torch

from app.domain.hamming_graph import FactorFeatures, Float32Array, Float64Array, HammingGraph, Int64Array
from app.domain.prediction_interval import PredictionInterval
from app.domain.seeds import derive_seed, generator
from worker.nas.auto_predictor import fit_auto
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_subspace
from worker.nas.inherited_predictor import fit_inherited
from worker.nas.product_process import label_noise

_FIT_SHARE = 0.9
"""Share of a fit's progress that is training; the rest is the prediction of the whole subspace."""

_USUAL_STEPS = 60

OnProgress = Callable[[float, Mapping[str, Any] | None], None]


@dataclass(frozen=True)
class RoundPairs:
    """A round's subspace with its fitted pairs.

    Attributes:
        graph: The graph over S_t.
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the pairs.
        accuracy_N: float64 [N], their z.
    """

    graph: HammingGraph
    features: FactorFeatures
    index_N: Int64Array
    accuracy_N: Float64Array


@dataclass(frozen=True)
class RoundFit:
    """What a predictor says.

    Attributes:
        predicted_N: float32 [size], f(M) of every architecture of S_t.
        interval: Of z around f(M), calibrated on left-out pairs; None for the paper's, which leaves none out.
        report: Figures of the fit, as JSON data.
        left_out: What would be predicted of fitted nodes without their pairs, where true labels are to correct that.
    """

    predicted_N: Float32Array
    interval: PredictionInterval | None
    report: Mapping[str, Any]
    left_out: Mapping[int, float]


def fit_round(
    predictor: Literal["paper", "auto"],
    pairs: RoundPairs,
    config: GCNTrainingConfig,
    seed: int,
    round_index: int,
    device: torch.device,
    on_progress: OnProgress,
    labels_follow: bool = False,
) -> RoundFit:
    """Fit a predictor to a supernet's pairs.

    Args:
        predictor: ``paper``, the GCN alone; or ``auto``.
        pairs: What to fit.
        config: How GCNs are trained.
        seed: The search's.
        round_index: t.
        device: Where GCNs are trained.
        on_progress: Called with the share done and figures to show; it may raise to cancel.
        labels_follow: Whether true labels are to correct the predictions. Then ``auto`` gives the blend with its
            interactions: the correction sets it against the nearly additive one, and the labels say which to believe.

    Raises:
        ValueError: If the pairs cannot be fitted, or training failed.
    """
    fit = _fit_paper if predictor == "paper" else _fit_blend if labels_follow else _fit_inherited
    started = time.perf_counter()
    fitted = fit(pairs, _Fitting(config, seed, round_index, device, on_progress))
    fit_s = time.perf_counter() - started
    predicted_N = fitted.predict(lambda done, total: on_progress(_FIT_SHARE + (1 - _FIT_SHARE) * done / total, None))
    seconds = {"fit_seconds": fit_s, "predict_seconds": time.perf_counter() - started - fit_s}
    report = {"predictor": predictor, **fitted.report, **{name: round(value, 2) for name, value in seconds.items()}}
    return RoundFit(predicted_N, fitted.interval, report, fitted.left_out)


@dataclass(frozen=True)
class _Fitting:
    """How a predictor is fitted, whichever it is; see :func:`fit_round`."""

    config: GCNTrainingConfig
    seed: int
    round_index: int
    device: torch.device
    on_progress: OnProgress


@dataclass(frozen=True)
class _Fitted:
    """A fitted predictor, whichever it is; see :class:`RoundFit`.

    Attributes:
        predict: Predicts S_t; it calls its argument with (nodes done, nodes in all).
    """

    report: Mapping[str, Any]
    predict: Callable[[Callable[[int, int], None]], Float32Array]
    interval: PredictionInterval | None = None
    left_out: Mapping[int, float] = field(default_factory=dict)


def _fit_paper(pairs: RoundPairs, how: _Fitting) -> _Fitted:
    epochs = how.config.epochs
    fitted = fit_gcn(
        pairs.graph,
        pairs.features,
        pairs.index_N,
        pairs.accuracy_N,
        how.config,
        seed=derive_seed(how.seed, how.round_index, "gcn"),
        device=how.device,
        on_epoch=lambda epoch, loss: how.on_progress(
            _FIT_SHARE * epoch / epochs, {"epoch": epoch, "epochs": epochs, "loss": loss}
        ),
    )
    noise = label_noise(
        pairs.features,
        pairs.graph.choices(pairs.index_N),
        np.asarray(pairs.accuracy_N),
        generator(how.seed, how.round_index, "label noise"),
    )
    report = {"final_loss": float(fitted.loss_curve[-1]), "label_noise": noise}
    return _Fitted(report, lambda on_nodes: predict_subspace(fitted, on_nodes))


def _fit_blend(pairs: RoundPairs, how: _Fitting) -> _Fitted:
    fitted = fit_auto(
        pairs.graph,
        pairs.features,
        pairs.index_N,
        pairs.accuracy_N,
        how.config,
        derive_seed(how.seed, how.round_index, "auto"),
        how.device,
        lambda share, details: how.on_progress(_FIT_SHARE * share, details),
    )
    return _Fitted(fitted.report, fitted.predict_subspace, fitted.interval, fitted.left_out)


def _fit_inherited(pairs: RoundPairs, how: _Fitting) -> _Fitted:
    steps = count(1)

    def on_step() -> None:
        # how many there will be is not known: ever closer to the end
        how.on_progress(_FIT_SHARE * -math.expm1(-next(steps) / _USUAL_STEPS), None)

    fitted = fit_inherited(
        pairs.graph,
        pairs.features,
        pairs.index_N,
        pairs.accuracy_N,
        derive_seed(how.seed, how.round_index, "auto"),
        on_step,
    )
    how.on_progress(_FIT_SHARE, None)
    return _Fitted(fitted.report, lambda on_nodes: fitted.predict_subspace(), fitted.interval)
