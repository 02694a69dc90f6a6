"""A predictor of the whole product space, fitted on the pairs of all rounds (beyond the paper: its tables end at S_T).

The graph of all prod(n_l) architectures is implicit, so that a fit costs what its pairs and their neighbours do.
Legend: N pairs, L cells.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from app.domain.gray_code import bit_tables, num_bits, placed_bit_tables
from app.domain.hamming_graph import FactorFeatures, Float64Array, HammingGraph, Int64Array
from app.domain.held_out_pairs import MAX_PAIRS
from app.domain.multi_adds import cost_functions
from app.domain.prediction_interval import calibrate_interval
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import SearchSpace
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_ridge import fit_additive
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor, WholeSpaceModel
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn
from worker.nas.product_process import label_noise

MAX_GCN_WEIGHT = 0.5
"""Left-out pairs confirm a supernet's artefacts as readily as real interactions: the additive part keeps its half."""

_MAX_NODES = 2**62
"""Larger spaces get the additive part alone: their nodes have no index in int64."""
_LEFT_OUT_SHARE = 0.1


def fit_space(
    space: SearchSpace,
    choices_NL: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[WholeSpaceModel, dict[str, Any]]:
    """Fit the additive part and the GCN to pairs of the whole space, weigh them, and prepare the queries.

    A tenth of the pairs is left out of the GCN's fit; how well both parts predict these decides the GCN's weight.

    Args:
        space: The target search space, whose costs can be limited.
        choices_NL: int64 [N, L], distinct architectures.
        accuracy_N: float64 [N], their accuracies.
        config: How the GCN is trained.
        seed: The search's.
        device: Where the GCN is trained.
        on_epoch: Called with (epochs done, loss); it may raise to cancel.

    Returns:
        The prepared model, and figures of the fit as JSON data.

    Raises:
        ValueError: As :func:`worker.nas.gcn_training.fit_gcn`.
    """
    fitted = fit_additive(space.num_choices, choices_NL, accuracy_N)
    left_out = _left_out(len(accuracy_N), seed)
    additive_N, truth_N = fitted.left_out_N[left_out], accuracy_N[left_out]
    predictor, predicted_N = BlendedPredictor(fitted.function), additive_N
    gcn_figures: dict[str, float | None] = {"gcn_weight": 0.0}
    if space.size < _MAX_NODES:
        seen = np.setdiff1d(np.arange(len(accuracy_N)), left_out)
        gcn = _fit_gcn(space, choices_NL[seen], accuracy_N[seen], config, seed, device, on_epoch)
        graph_N = gcn.predict(choices_NL[left_out]).astype(np.float64)
        weight = blend_weight(additive_N, graph_N, truth_N)
        gcn_figures = {"gcn_tau": kendall_tau(graph_N, truth_N), "gcn_weight": round(weight, 4)}
        if weight > 0:
            predictor = BlendedPredictor(fitted.function, gcn, weight)
            predicted_N = (1 - weight) * additive_N + weight * graph_N
    report = {
        "predictor": "auto",
        "num_pairs": len(accuracy_N),
        **gcn_figures,
        "num_held_out": len(left_out),
        "held_out_tau": kendall_tau(predicted_N, truth_N),
        "additive_tau": kendall_tau(additive_N, truth_N),
        "label_noise": label_noise(_features(space), choices_NL, accuracy_N, generator(seed, None, "space noise")),
        "interval": calibrate_interval(predicted_N, truth_N).to_dict(),
        "held_out": _kept(choices_NL[left_out], predicted_N, truth_N),
    }
    return prepared_model(predictor, cost_functions(space), seed), report


def _left_out(num_pairs: int, seed: int) -> Int64Array:
    """int64 [K], the pairs that the GCN does not see, in random order."""
    num_left_out = max(2, round(_LEFT_OUT_SHARE * num_pairs))
    return generator(seed, None, "space left out").permutation(num_pairs)[:num_left_out]


def _kept(choices_KL: Int64Array, predicted_K: Float64Array, accuracy_K: Float64Array) -> dict[str, list[Any]]:
    """Left-out pairs as JSON data, as many as a tau under limits is taken from."""
    return {
        "choices": choices_KL[:MAX_PAIRS].tolist(),
        "predicted": predicted_K[:MAX_PAIRS].tolist(),
        "accuracy": accuracy_K[:MAX_PAIRS].tolist(),
    }


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
