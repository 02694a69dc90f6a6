"""*Measured* similarity of the choices of a cell: the weight of the edges that exchange one for the other.

Section 3.3, step 2: "we make statistics over multiple architectures and calculate the correlation coefficient as
similarity". The paper does not say more; this is our reading. Legend: N pairs, C choices of a factor, G groups.
"""

import numpy as np
from numpy.typing import NDArray

from app.domain.hamming_graph import ASSIGNED_SIMILARITY, Float64Array, HammingGraph, Int64Array, factor_offsets

_MAX_GROUPS = 24
_PAIRS_PER_CELL_OF_THE_TABLE = 3
_MIN_COMMON_GROUPS = 3
_RIDGE = 1.0
_PRIOR_GROUPS = 4.0
_FLAT_PROFILE = 1e-9  # accuracies are fractions of whole images, so less than this is rounding


def measured_similarity(graph: HammingGraph, index_N: Int64Array, accuracy_N: Float64Array) -> HammingGraph:
    """Return the graph with every factor's edges weighted by the correlation seen between its choices.

    Architectures that differ in one cell only are rarely sampled together (30 of 1,800 out of 6^7 per cell), so a pair
    of choices is compared over architectures whose *remaining* cells are worth about the same. For each factor:

    1. An additive model (ridge regression on one-hot choices) gives what all other factors contribute to a pair's
       accuracy; pairs are put into groups of equal size, ordered by it.
    2. For each choice, the mean accuracy of the group's pairs that have it: a profile over the groups.
    3. The similarity of two choices is the Pearson correlation of their profiles over the groups that hold both,
       drawn towards the assigned e^-0.5 as if four more groups had shown that, and cut to [0, 1].

    Choices that respond alike to the rest of the network get weights near 1; where too few pairs were sampled to tell
    (fewer than three common groups) the assigned weight remains. No randomness is involved.

    Args:
        graph: Any graph over the subspace; its factors and Hamming threshold are kept.
        index_N: int64 [N], the sampled nodes.
        accuracy_N: float [N], their accuracies.

    Raises:
        ValueError: If lengths differ, no pair is given, an accuracy is not finite or a node not in the subspace.
    """
    accuracy_N = np.asarray(accuracy_N, dtype=np.float64)
    if len(index_N) != len(accuracy_N) or not len(accuracy_N):
        raise ValueError(f"{len(index_N)} nodes and {len(accuracy_N)} accuracies; give one accuracy per sampled node")
    if not np.isfinite(accuracy_N).all():
        raise ValueError("measured similarity needs finite accuracies; leave the failed pairs out")
    choices_NF = graph.choices(index_N)
    contribution_NF = _additive_contributions(graph.factor_sizes, choices_NF, accuracy_N)
    rest_NF = contribution_NF.sum(1, keepdims=True) - contribution_NF
    matrices = [
        _profile_correlations(choices_NF[:, factor], size, rest_NF[:, factor], accuracy_N)
        for factor, size in enumerate(graph.factor_sizes)
    ]
    return HammingGraph.measured(matrices, graph.hamming_threshold)


def _additive_contributions(
    factor_sizes: tuple[int, ...], choices_NF: Int64Array, accuracy_N: Float64Array
) -> Float64Array:
    """float64 [N, F]: what each factor's choice adds to the accuracy, by ridge regression."""
    spans = factor_offsets(factor_sizes)
    columns_NF = choices_NF + np.array([first for first, _ in spans])
    one_hot_NC = np.zeros((len(choices_NF), spans[-1][1]))
    np.put_along_axis(one_hot_NC, columns_NF, 1.0, axis=1)
    penalised_CC = one_hot_NC.T @ one_hot_NC + _RIDGE * np.eye(one_hot_NC.shape[1])
    effect_C = np.linalg.solve(penalised_CC, one_hot_NC.T @ (accuracy_N - accuracy_N.mean()))
    contributions: Float64Array = effect_C[columns_NF]
    return contributions


def _profile_correlations(
    choice_N: Int64Array, size: int, rest_N: Float64Array, accuracy_N: Float64Array
) -> Float64Array:
    """float64 [C, C]: shrunken, clipped correlations between the choices' accuracies over groups of equal rest."""
    num_groups = int(np.clip(len(choice_N) // (size * _PAIRS_PER_CELL_OF_THE_TABLE), 1, _MAX_GROUPS))
    group_N = np.empty(len(choice_N), dtype=np.int64)
    group_N[np.argsort(rest_N, kind="stable")] = np.arange(len(choice_N)) * num_groups // len(choice_N)
    cell_N = choice_N * num_groups + group_N
    count_CG = np.bincount(cell_N, minlength=size * num_groups).reshape(size, num_groups)
    total_CG = np.bincount(cell_N, weights=accuracy_N, minlength=size * num_groups).reshape(size, num_groups)
    mean_CG = total_CG / np.maximum(count_CG, 1)
    matrix_CC = np.zeros((size, size))
    for first in range(size):
        for second in range(first + 1, size):
            common_G = (count_CG[first] > 0) & (count_CG[second] > 0)
            weight = _shrunken_correlation(mean_CG[first, common_G], mean_CG[second, common_G])
            matrix_CC[first, second] = matrix_CC[second, first] = weight
    return matrix_CC


def _shrunken_correlation(first_G: NDArray[np.float64], second_G: NDArray[np.float64]) -> float:
    """Pearson's correlation, with the assigned similarity as the prior opinion of a few groups."""
    if len(first_G) < _MIN_COMMON_GROUPS:
        return ASSIGNED_SIMILARITY
    if min(np.ptp(first_G), np.ptp(second_G)) < _FLAT_PROFILE:
        # A constant profile, e.g. all accuracies equal, says nothing about similarity.
        return ASSIGNED_SIMILARITY
    correlation = float(np.corrcoef(first_G, second_G)[0, 1])
    shrunken = (len(first_G) * correlation + _PRIOR_GROUPS * ASSIGNED_SIMILARITY) / (len(first_G) + _PRIOR_GROUPS)
    return float(np.clip(shrunken, 0.0, 1.0))
