"""A predictor of the whole product space, fitted on the pairs of all rounds (beyond the paper: its tables end at S_T).

The graph of all prod(n_l) architectures is implicit, so that a fit costs what its pairs and their neighbours do.
Legend: N pairs, L cells.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Literal

import numpy as np
import torch

from app.domain.gray_code import bit_tables, num_bits, placed_bit_tables
from app.domain.hamming_graph import FactorFeatures, Float64Array, HammingGraph, Int64Array
from app.domain.held_out_pairs import MAX_PAIRS
from app.domain.monotone_link import MonotoneLink, cross_fitted
from app.domain.multi_adds import cost_functions
from app.domain.prediction_interval import calibrate_interval
from app.domain.rank_correlation import kendall_tau
from app.domain.saturation import NOT_SATURATED
from app.domain.search_space import SearchSpace
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.additive_ridge import fit_additive
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor, WholeSpaceModel
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn
from worker.nas.product_kernel import OnStep
from worker.nas.product_process import check_pairs
from worker.nas.robust_process import fit_robust_process
from worker.nas.saturation_choice import choose_saturation
from worker.nas.space_doubt import fit_doubt

OnSpaceProgress = Callable[[float, Mapping[str, Any] | None], None]

MAX_GCN_WEIGHT = 0.5
"""Left-out pairs confirm a supernet's artefacts as readily as real interactions: the additive part keeps its half."""

_MAX_NODES = 2**62
"""Larger spaces get the additive part alone: their nodes have no index in int64."""
_LEFT_OUT_SHARE = 0.1

_STEPS_SHARE, _USUAL_STEPS = 0.3, 100
"""The processes' share of the progress, and how many steps they take."""


def fit_space(
    space: SearchSpace,
    choices_NL: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    on_progress: OnSpaceProgress | None = None,
    predictor: Literal["paper", "auto"] = "auto",
    labels_follow: bool = False,
) -> tuple[WholeSpaceModel, dict[str, Any]]:
    """Fit the configured predictor to pairs of the whole space, say how sure it is, and prepare the queries.

    ``auto`` is the additive part of a process with a link; it keeps none of the interactions, so that enumerating it
    is exact. The rounds' pairs lie around ever better
    architectures, so where accuracies saturate it is all fitted to efforts (:mod:`app.domain.saturation`). ``paper`` is
    ridge and the GCN: a tenth of the pairs is left out of the GCN's fit, and how well both predict these decides the
    GCN's weight. Where true labels are to decide that, ``auto`` has a GCN as well, which they can leave out again.

    Args:
        space: The target search space, whose costs can be limited.
        choices_NL: int64 [N, L], distinct architectures.
        accuracy_N: float64 [N], their accuracies.
        config: How the GCN is trained.
        seed: The search's.
        device: Where the GCN is trained.
        on_progress: Called with the share of the fit done and figures to show; it may raise to cancel.
        predictor: Which.
        labels_follow: Whether true labels are to correct the predictions.

    Returns:
        The prepared model, and figures of the fit as JSON data.

    Raises:
        ValueError: As :func:`worker.nas.gcn_training.fit_gcn`, or if there are too few pairs for ``auto``.
    """
    accuracy_N = np.asarray(accuracy_N, dtype=np.float64)
    on_progress = on_progress or (lambda _share, _details: None)
    features, steps = _features(space), count(1)

    def on_step() -> None:
        # how many there will be is not known: ever closer to the end of this part
        on_progress(_STEPS_SHARE * -math.expm1(-next(steps) / _USUAL_STEPS), None)

    saturation = NOT_SATURATED
    if predictor == "auto":
        check_pairs(choices_NL[:, 0], accuracy_N)
        rng = generator(seed, None, "space saturation")
        saturation = choose_saturation(features, choices_NL, accuracy_N, rng, on_step)
    effort_N = saturation.effort(accuracy_N)
    additive, additive_N, believed_N = _additive_part(space, choices_NL, effort_N, predictor, seed, on_step)
    rng = generator(seed, None, "space noise")
    doubt, stretch_N, noise = fit_doubt(features, choices_NL, believed_N, rng, on_step)
    left_out = _left_out(len(accuracy_N), seed)
    blended = BlendedPredictor(additive, saturation=saturation)
    parts = {"additive": additive_N[left_out]}
    gcn_figures: dict[str, float | None] = {"gcn_weight": 0.0}
    judged = np.arange(len(accuracy_N))
    predicted_N = additive_N  # efforts, as the parts
    if (predictor == "paper" or labels_follow) and space.size < _MAX_NODES:
        judged = left_out
        seen = np.setdiff1d(np.arange(len(accuracy_N)), left_out)
        gcn = _fit_gcn(space, choices_NL[seen], accuracy_N[seen], config, seed, device, _on_epoch(config, on_progress))
        parts["graph"] = saturation.capped_effort(gcn.predict(choices_NL[left_out]).astype(np.float64))
        weight = blend_weight(parts["additive"], parts["graph"], effort_N[left_out])
        tau = kendall_tau(parts["graph"], accuracy_N[left_out])
        gcn_figures = {"gcn_tau": tau, "gcn_weight": round(weight, 4)}
        if weight > 0:
            blended = BlendedPredictor(additive, gcn, weight, saturation=saturation)
            predicted_N = additive_N.copy()
            predicted_N[left_out] = (1 - weight) * parts["additive"] + weight * parts["graph"]
    elif predictor == "auto" and not labels_follow:
        # labels would correct the additive part before its link
        bounds = saturation.bounds
        within_N = np.clip(believed_N, *bounds)
        blended = BlendedPredictor(
            additive, link=MonotoneLink.fit(additive_N, within_N, *bounds), saturation=saturation
        )
        predicted_N = cross_fitted(additive_N, within_N, generator(seed, None, "space link folds"), *bounds)
    predicted_N = saturation.accuracy(predicted_N)
    interval = calibrate_interval(
        predicted_N[judged], accuracy_N[judged], stretch_N=stretch_N[judged], saturation=saturation
    )
    report = {
        "predictor": predictor,
        "num_pairs": len(accuracy_N),
        **gcn_figures,
        "num_held_out": len(left_out),
        "held_out_tau": kendall_tau(predicted_N[left_out], accuracy_N[left_out]),
        "additive_tau": kendall_tau(
            fit_additive(space.num_choices, choices_NL, accuracy_N).left_out_N[left_out], accuracy_N[left_out]
        ),
        "label_noise": round(saturation.deviation(float(np.sqrt(noise) * believed_N.std()), believed_N), 6),
        "ceiling": saturation.ceiling,
        "interval": interval and interval.to_dict(),
        "held_out": _kept(
            choices_NL[left_out],
            {
                "predicted": predicted_N[left_out],
                "accuracy": accuracy_N[left_out],
                "stretch": stretch_N[left_out],
                **parts,
            },
        ),
    }
    return replace(prepared_model(blended, cost_functions(space), seed), doubt=doubt), report


def _additive_part(
    space: SearchSpace,
    choices_NL: Int64Array,
    effort_N: Float64Array,
    predictor: Literal["paper", "auto"],
    seed: int,
    on_step: OnStep,
) -> tuple[AdditiveFunction, Float64Array, Float64Array]:
    """The additive predictor in units of its targets, what it says of each pair without it, and believable targets."""
    if predictor == "paper":
        fitted = fit_additive(space.num_choices, choices_NL, effort_N)
        return fitted.function, fitted.left_out_N, effort_N
    fit = fit_robust_process(_features(space), choices_NL, effort_N, generator(seed, None, "space process"), on_step)
    additive, scale = fit.process.model.additive, fit.scale
    in_units = AdditiveFunction(fit.mean + scale * additive.constant, tuple(scale * t for t in additive.tables))
    return in_units, fit.mean + scale * fit.process.left_out_additive_N, fit.believed_N


def _left_out(num_pairs: int, seed: int) -> Int64Array:
    """int64 [K], the pairs that the GCN does not see, in random order."""
    num_left_out = max(2, round(_LEFT_OUT_SHARE * num_pairs))
    return generator(seed, None, "space left out").permutation(num_pairs)[:num_left_out]


def _kept(choices_KL: Int64Array, values: Mapping[str, Float64Array]) -> dict[str, list[Any]]:
    """Left-out pairs as JSON data, as many as a tau under limits is taken from."""
    return {
        "choices": choices_KL[:MAX_PAIRS].tolist(),
        **{name: value_K[:MAX_PAIRS].tolist() for name, value_K in values.items()},
    }


def _on_epoch(config: GCNTrainingConfig, on_progress: OnSpaceProgress) -> Callable[[int, float], None]:
    """What passes the epochs of the GCN on as progress."""
    epochs = config.epochs

    def on_epoch(epoch: int, loss: float) -> None:
        share = _STEPS_SHARE + (1 - _STEPS_SHARE) * epoch / epochs
        on_progress(share, {"epoch": epoch, "epochs": epochs, "loss": loss})

    return on_epoch


def _features(space: SearchSpace) -> FactorFeatures:
    return FactorFeatures(np.zeros(num_bits(space), dtype=np.float32), placed_bit_tables(space))


def blend_weight(additive_N: Float64Array, graph_N: Float64Array, accuracy_N: Float64Array) -> float:
    """Return the weight of the GCN with the least squared error, from 0 to ``MAX_GCN_WEIGHT``."""
    step_N = graph_N - additive_N
    squared = float(step_N @ step_N)
    return float(np.clip((accuracy_N - additive_N) @ step_N / squared, 0.0, MAX_GCN_WEIGHT)) if squared > 0 else 0.0


def _fit_gcn(
    space: SearchSpace,
    choices_NL: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str,
    on_epoch: Callable[[int, float], None] | None,
) -> HammingGCN:
    graph = HammingGraph.assigned(space.num_choices)
    index_N = graph.index(choices_NL)
    order = np.argsort(index_N)
    fit = fit_gcn(
        graph,
        _features(space),
        index_N[order],
        accuracy_N[order],
        config,
        seed=derive_seed(seed, None, "space gcn"),
        device=device,
        on_epoch=on_epoch,
    )
    state = {key: value.cpu().numpy() for key, value in fit.module.state_dict().items()}
    return HammingGCN.from_state_dict(bit_tables(space), state)
