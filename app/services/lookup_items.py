"""The architectures of an answer, with what is known of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.prediction_interval import PredictionInterval
from app.domain.search_space import SearchSpace
from app.domain.subspace import codes_of
from app.schemas.lookup import LookupItem
from app.services.fit_figures import intervals_of


def lookup_items(
    space: SearchSpace,
    choices_NL: NDArray[np.uint8],
    predicted: Sequence[float],
    costs: Sequence[tuple[int, int]],
    known: Mapping[tuple[str, str], float],
    interval: PredictionInterval | None,
) -> list[LookupItem]:
    """Return the items of an answer, best first.

    Args:
        space: The target search space.
        choices_NL: uint8 [N, L], the architectures.
        predicted: Their predicted accuracies.
        costs: Their multi-adds and parameters.
        known: Accuracies of evaluated architectures by (source, code).
        interval: Of z around a prediction, if the search has one.
    """
    intervals = intervals_of(interval, predicted)
    rows = zip(codes_of(choices_NL), choices_NL.tolist(), predicted, intervals, costs, strict=True)
    return [
        LookupItem(
            rank=rank,
            code=code,
            readable=space.readable(architecture),
            predicted_accuracy=accuracy,
            interval=bounds,
            sampled_accuracy=known.get(("sampled", code)),
            reevaluated_accuracy=known.get(("reevaluated", code)),
            is_reevaluated=("reevaluated", code) in known,
            multi_adds=multi_adds,
            params=params,
        )
        for rank, (code, architecture, accuracy, bounds, (multi_adds, params)) in enumerate(rows, start=1)
    ]
