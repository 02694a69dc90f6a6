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
from app.domain.multi_adds import cost_functions
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import SearchSpace
from app.domain.seeds import derive_seed, generator
from app.domain.whole_space.additive_ridge import fit_additive
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor, WholeSpaceModel
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn

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
    report: dict[str, Any] = {
        "num_pairs": len(accuracy_N),
        "additive_tau": kendall_tau(fitted.left_out_N, accuracy_N),
        "gcn_weight": 0.0,
    }
    predictor = BlendedPredictor(fitted.function)
    if space.size < _MAX_NODES:
        left_out_N = np.zeros(len(accuracy_N), dtype=bool)
        num_left_out = max(2, round(_LEFT_OUT_SHARE * len(accuracy_N)))
        left_out_N[generator(seed, None, "space left out").permutation(len(accuracy_N))[:num_left_out]] = True
        gcn = _fit_gcn(space, choices_NL[~left_out_N], accuracy_N[~left_out_N], config, seed, device, on_epoch)
        graph_N = gcn.predict(choices_NL[left_out_N]).astype(np.float64)
        weight = blend_weight(fitted.left_out_N[left_out_N], graph_N, accuracy_N[left_out_N])
        report |= {"gcn_tau": kendall_tau(graph_N, accuracy_N[left_out_N]), "gcn_weight": round(weight, 4)}
        report["num_left_out"] = num_left_out
        if weight > 0:
            predictor = BlendedPredictor(fitted.function, gcn, weight)
    return prepared_model(predictor, cost_functions(space), seed), report


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
        FactorFeatures(np.zeros(num_bits(space), dtype=np.float32), placed_bit_tables(space)),
        index_N[order],
        accuracy_N[order],
        config,
        seed=derive_seed(seed, None, "space gcn"),
        device=device,
        on_epoch=on_epoch,
    )
    state = {key: value.cpu().numpy() for key, value in fit.module.state_dict().items()}
    return HammingGCN.from_state_dict(bit_tables(space), state)
