"""The architectures of an answer, with what is known of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.multi_adds import Cost
from app.domain.search_space import SearchSpace
from app.domain.subspace import codes_of
from app.domain.whole_space.additive_function import AdditiveFunction
from app.schemas.lookup import CostRanges, LookupItem, MillisecondRange
from app.schemas.search import Interval, Range
from app.services.device_latencies import DeviceLatency
from app.services.limits import AskedLimits


def lookup_items(
    space: SearchSpace,
    choices_NL: NDArray[np.uint8],
    predicted: Sequence[float],
    costs: Sequence[tuple[int, int]],
    known: Mapping[tuple[str, str], float],
    intervals: Sequence[Interval | None],
    latency: Sequence[DeviceLatency] = (),
    asked: AskedLimits | None = None,
) -> list[LookupItem]:
    """Return the items of an answer, best first.

    Args:
        space: The target search space.
        choices_NL: uint8 [N, L], the architectures.
        predicted: Their predicted accuracies.
        costs: Their multi-adds and parameters.
        known: Accuracies of evaluated architectures by (source, code).
        intervals: Of z around each prediction, where there is one.
        latency: Of the devices that were asked for.
        asked: The limits that they meet.
    """
    limits = dict(asked.latencies if asked else ())
    milliseconds = {
        device.name: [_shown(device, ms, limits.get(device.name)) for ms in device.function.of(choices_NL).tolist()]
        for device in latency
    }
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
            latency_ms={name: ms[rank - 1] for name, ms in milliseconds.items()},
        )
        for rank, (code, architecture, accuracy, bounds, (multi_adds, params)) in enumerate(rows, start=1)
    ]


def _shown(device: DeviceLatency, ms: float, max_ms: float | None) -> float:
    """Milliseconds without what rounding has added, which may be as much as they seem to be above the limit."""
    shown = device.function.shortest(ms)
    return shown if max_ms is None else min(shown, max_ms)


def limited_latencies(latency: Sequence[DeviceLatency], asked: AskedLimits) -> list[tuple[AdditiveFunction, float]]:
    """Return the latencies that are limited, and not only asked for, each with its limit in milliseconds."""
    return [
        (device.function, device.function.with_room(max_ms))
        for device, (_, max_ms) in zip(latency, asked.latencies, strict=True)
        if max_ms is not None
    ]


def cost_ranges(costs: tuple[Cost, Cost], latency: Mapping[str, tuple[float, float]]) -> CostRanges:
    """Return ranges of costs: smallest and largest multi-adds and parameters, and latencies by device."""
    smallest, largest = costs
    return CostRanges(
        multi_adds=Range(min=smallest.multi_adds, max=largest.multi_adds),
        params=Range(min=smallest.params, max=largest.params),
        latency_ms={name: MillisecondRange(min=least, max=most) for name, (least, most) in latency.items()},
    )


def latency_of_space(latency: Sequence[DeviceLatency]) -> dict[str, tuple[float, float]]:
    """Return the fastest and the slowest network of a whole space, by device."""
    return {device.name: device.function.shortest_range for device in latency}
