"""What true labels set against each other: the safest prediction of a round, and that of the predictor asked for.

Both are brought to normal scores; a blend of these, back on the safest one's scale, is what the labels say.
Legend: N rows, S rows of S_t, M fitted rows, K = 2 base predictions, L cells.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from app.domain.hamming_graph import Float64Array, HammingGraph, Int64Array
from app.domain.lookup_table import LookupTable
from app.domain.prediction_interval import PredictionInterval, calibrate_interval
from app.domain.seeds import derive_seed
from app.domain.whole_space.additive_ridge import fit_additive
from worker.nas.inherited_predictor import fit_inherited
from worker.nas.product_process import MIN_PAIRS
from worker.nas.rank_scale import RankScale
from worker.nas.standalone_blend import StandaloneBlend
from worker.pipeline.ports import Pair, Search


@dataclasses.dataclass(frozen=True, eq=False)
class BasePredictions:
    """What labels set against each other: the safest prediction, and that of the round's fit.

    Attributes:
        score_SK: float64 [size, 2], their normal scores.
        scales: From their accuracies to these.
        safest_left_out: What the safest says of each fitted row without its pair.
    """

    score_SK: Float64Array
    scales: tuple[RankScale, RankScale]
    safest_left_out: Mapping[int, float]

    def corrected(self, blend: StandaloneBlend, score_NK: Float64Array, choices_NL: Int64Array) -> Float64Array:
        """Return float64 [N], accuracies as the labels say, given both scores of some architectures."""
        return self.scales[0].values(blend.corrected(score_NK, choices_NL))


def base_predictions(
    search: Search,
    round_index: int,
    table: LookupTable,
    pairs: Sequence[Pair],
    on_step: Callable[[], None] | None = None,
) -> BasePredictions:
    """Return the base predictions of a round.

    The safest is what ``auto`` publishes without labels, fitted to the pairs that the predictor was fitted to.

    Args:
        search: The search.
        round_index: t.
        table: What the predictor says of S_t.
        pairs: The round's sampled pairs.
        on_step: Called while it is worked out; it may raise to cancel.
    """
    subspace, fitted = table.subspace, [pair for pair in pairs if not pair.held_out]
    index_N = np.array([subspace.index(subspace.space.parse_code(pair.code)) for pair in fitted], dtype=np.int64)
    graph, accuracy_N = HammingGraph.assigned(subspace.factor_sizes), np.array([pair.accuracy for pair in fitted])
    if len(fitted) >= MIN_PAIRS:
        seed = derive_seed(search.config.seed, round_index, "auto")
        safest = fit_inherited(graph, subspace.factor_features(), index_N, accuracy_N, seed, on_step)
        safest_S, left_out = safest.whole_space(), safest.left_out
    else:
        additive = fit_additive(graph.factor_sizes, graph.choices(index_N), accuracy_N)
        safest_S = additive.function.whole_space()
        left_out = dict(zip(index_N.tolist(), additive.left_out_N.tolist(), strict=True))
    safest_scale, fitted_scale = RankScale.of(safest_S), RankScale.of(table.predicted_accuracy)
    score_SK = np.stack([safest_scale.scores(safest_S), fitted_scale.scores(table.predicted_accuracy)], axis=1)
    return BasePredictions(score_SK, (safest_scale, fitted_scale), left_out)


def corrected_interval(
    table: LookupTable,
    pairs: Sequence[Pair],
    base: BasePredictions,
    blend: StandaloneBlend,
    left_out: Mapping[str, float],
) -> PredictionInterval | None:
    """Return the interval of z around corrected predictions, by the held-out pairs; None if nothing could say.

    Where these are too few, fitted ones help, each as both base predictions have it without its pair.

    Args:
        table: The corrected one.
        pairs: The round's sampled ones.
        base: The base predictions.
        blend: What the labels say.
        left_out: What the round's fit says of its rows without their pairs, if it kept that.
    """
    predicted_N, accuracy_N = held_out(table, pairs)
    if left_out:
        known = {row: pair.accuracy for row, pair in zip(_rows(table, pairs), pairs, strict=True)}
        index_M = np.array(sorted(int(row) for row in left_out), dtype=np.int64)
        without_MK = np.array([(base.safest_left_out[row], left_out[str(row)]) for row in index_M.tolist()])
        score_MK = np.stack([scale.scores(without_MK[:, k]) for k, scale in enumerate(base.scales)], axis=1)
        choices_ML = table.subspace.architectures(index_M).astype(np.int64)
        predicted_N = np.concatenate([predicted_N, base.corrected(blend, score_MK, choices_ML)])
        accuracy_N = np.concatenate([accuracy_N, [known[row] for row in index_M.tolist()]])
    return calibrate_interval(predicted_N, accuracy_N)


def held_out(table: LookupTable, pairs: Sequence[Pair]) -> tuple[Float64Array, Float64Array]:
    """Return float64 [N], predicted and evaluated accuracies of the held-out pairs."""
    kept = [pair for pair in pairs if pair.held_out]
    return table.predicted_accuracy[_rows(table, kept)].astype(np.float64), np.array([pair.accuracy for pair in kept])


def _rows(table: LookupTable, pairs: Sequence[Pair]) -> list[int]:
    return [table.subspace.index(table.subspace.space.parse_code(pair.code)) for pair in pairs]
