"""The architectures of an answer, with what is known of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.search_space import SearchSpace
from app.domain.subspace import codes_of
from app.schemas.lookup import LookupItem


def lookup_items(
    space: SearchSpace,
    choices_NL: NDArray[np.uint8],
    predicted: Sequence[float],
    costs: Sequence[tuple[int, int]],
    known: Mapping[tuple[str, str], float],
) -> list[LookupItem]:
    """Return the items of an answer, best first.

    Args:
        space: The target search space.
        choices_NL: uint8 [N, L], the architectures.
        predicted: Their predicted accuracies.
        costs: Their multi-adds and parameters.
        known: Accuracies of evaluated architectures by (source, code).
    """
    rows = zip(codes_of(choices_NL), choices_NL.tolist(), predicted, costs, strict=True)
    return [
        LookupItem(
            rank=rank,
            code=code,
            readable=space.readable(architecture),
            predicted_accuracy=accuracy,
            sampled_accuracy=known.get(("sampled", code)),
            reevaluated_accuracy=known.get(("reevaluated", code)),
            multi_adds=multi_adds,
            params=params,
        )
        for rank, (code, architecture, accuracy, (multi_adds, params)) in enumerate(rows, start=1)
    ]
