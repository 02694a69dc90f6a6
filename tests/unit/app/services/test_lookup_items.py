"""The items of an answer: ranked in the order given, each with what is known of it and of no other."""

import numpy as np
import pytest

from app.domain.multi_adds import Cost, count
from app.domain.search_space import preset
from app.domain.whole_space.additive_function import AdditiveFunction
from app.schemas.search import Interval
from app.services.device_latencies import DeviceLatency
from app.services.lookup_items import cost_ranges, latency_of_space, lookup_items

SPACE = preset("nas-bench-macro")
ARCHITECTURES = [(1, 2, 2, 1, 2, 0, 2, 1), (0,) * 8]
PIXEL = DeviceLatency(1, "pixel", AdditiveFunction(0.5, tuple(np.array([0.25, 0.5, 1.0]) for _ in range(8))))


def test_each_has_what_is_known_of_it() -> None:
    costs = [(count(SPACE, a).multi_adds, count(SPACE, a).params) for a in ARCHITECTURES]
    known = {("sampled", "12212021"): 0.75, ("reevaluated", "00000000"): 0.5, ("sampled", "00000001"): 0.9}
    interval = Interval(level=0.9, lower=0.7, upper=0.8)
    first, second = lookup_items(
        SPACE, np.array(ARCHITECTURES, dtype=np.uint8), [0.76, 0.51], costs, known, [interval, None], [PIXEL]
    )
    assert (first.rank, first.code, first.readable) == (1, "12212021", SPACE.readable(ARCHITECTURES[0]))
    assert (first.sampled_accuracy, first.reevaluated_accuracy, first.is_reevaluated) == (0.75, None, False)
    assert (second.sampled_accuracy, second.reevaluated_accuracy, second.is_reevaluated) == (None, 0.5, True)
    assert (first.interval, second.interval) == (interval, None)
    assert [(item.multi_adds, item.params) for item in (first, second)] == costs
    assert first.latency_ms == {"pixel": 0.5 + 4 * 1.0 + 3 * 0.5 + 0.25}
    assert second.latency_ms == {"pixel": 0.5 + 8 * 0.25}


def test_what_belongs_together_must_be_of_one_length() -> None:
    """An answer with somebody else's interval would be worse than none."""
    with pytest.raises(ValueError, match="zip"):
        lookup_items(SPACE, np.array(ARCHITECTURES, dtype=np.uint8), [0.5, 0.4], [(1, 1), (1, 1)], {}, [None])


def test_nothing_found() -> None:
    assert lookup_items(SPACE, np.zeros((0, 8), dtype=np.uint8), [], [], {}, [], [PIXEL]) == []


def test_ranges_are_of_each_cost_by_itself() -> None:
    ranges = cost_ranges((Cost(10, 400), Cost(90, 500)), latency_of_space([PIXEL]))
    assert (ranges.multi_adds.min, ranges.multi_adds.max, ranges.params.min, ranges.params.max) == (10, 90, 400, 500)
    assert ranges.latency_ms["pixel"].model_dump() == {"min": 0.5 + 8 * 0.25, "max": 0.5 + 8 * 1.0}
