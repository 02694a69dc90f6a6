"""Which architectures are worth a training of their own: spread over the space, and where the predictors disagree.

Candidates are cut into as many strata of the safest prediction as labels are wanted, and each stratum gives the one
whose z* would be the least certain once those chosen before it were known, under the model of
:mod:`worker.nas.standalone_blend`: unlike them in its choices, or with predictors that disagree more. No label is
needed for that, so all can be trained at the same time.
Legend: N candidates, K base predictions (the safest first), C choices over all cells, P parameters.
"""

from collections.abc import Sequence

import numpy as np

from app.domain.hamming_graph import Float64Array, Int64Array, factor_offsets

_WEIGHT_SD, _EFFECT_SD, _NOISE_SD = 0.5, 0.2, 0.3
"""As in the blend: of a weight, of a choice's effect and of a label, the last two in units of the spread."""


def choose_standalone(
    base_NK: Float64Array, choices_NL: Int64Array, num_choices: Sequence[int], num_chosen: int
) -> Int64Array:
    """Return int64 [num_chosen], rows of the candidates, ascending; all of them where there are no more.

    Args:
        base_NK: float64, what each predictor says of the candidates, the safest first.
        choices_NL: int64, their choices in every cell of the whole space.
        num_choices: Of every cell.
        num_chosen: How many.

    Raises:
        ValueError: If lengths differ.
    """
    if len(base_NK) != len(choices_NL):
        raise ValueError(f"{len(base_NK)} rows of predictions for {len(choices_NL)} candidates; give one each")
    if not num_chosen:
        return np.zeros(0, dtype=np.int64)
    if num_chosen >= len(base_NK):
        return np.arange(len(base_NK), dtype=np.int64)
    feature_NP = _features(base_NK, choices_NL, num_choices)
    strata = np.array_split(np.argsort(-base_NK[:, 0], kind="stable"), num_chosen)
    covariance_PP = np.eye(feature_NP.shape[1])
    chosen = []
    for stratum in strata:
        inside_NP = feature_NP[stratum]
        variance_N = ((inside_NP @ covariance_PP) * inside_NP).sum(1)
        best = int(variance_N.argmax())
        chosen.append(int(stratum[best]))
        direction_P = covariance_PP @ inside_NP[best]
        covariance_PP -= np.outer(direction_P, direction_P) / (_NOISE_SD**2 + variance_N[best])
    return np.array(sorted(chosen), dtype=np.int64)


def _features(base_NK: Float64Array, choices_NL: Int64Array, num_choices: Sequence[int]) -> Float64Array:
    """float64 [N, P], scaled so that every parameter has a prior variance of one."""
    scale = max(float(base_NK[:, 0].std()), 1e-9)
    centred_NK = (base_NK - base_NK.mean(0)) / scale
    one_hot_NC = np.zeros((len(base_NK), sum(num_choices)))
    first_L = np.array([first for first, _ in factor_offsets(tuple(num_choices))])
    np.put_along_axis(one_hot_NC, choices_NL + first_L, 1.0, axis=1)
    one_hot_NC -= one_hot_NC.mean(0)
    return np.concatenate(
        [centred_NK[:, :1], _WEIGHT_SD * (centred_NK[:, 1:] - centred_NK[:, :1]), _EFFECT_SD * one_hot_NC], axis=1
    )
