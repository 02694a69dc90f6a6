"""Bodies about devices: latencies in one form or the other, and what a worker may be asked to measure."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.latency import MAX_LATENCY_MS
from app.schemas.device import MAX_REPORT_LENGTH, DeviceRequest, MeasurementRequest

NUMBERS: dict[str, Any] = {"base_ms": 0.5, "cells_ms": [[1.0, 2.0]]}


@pytest.mark.parametrize("missing", ["base_ms", "cells_ms"])
def test_numbers_are_given_whole(missing: str) -> None:
    with pytest.raises(ValidationError, match="give base_ms and cells_ms, or csv"):
        DeviceRequest.model_validate({name: value for name, value in NUMBERS.items() if name != missing})


@pytest.mark.parametrize("name", ["base_ms", "cells_ms"])
def test_lines_are_given_alone(name: str) -> None:
    with pytest.raises(ValidationError, match="not both"):
        DeviceRequest.model_validate({"csv": "cell,choice,latency_ms", name: NUMBERS[name]})


@pytest.mark.parametrize("latency_ms", [-0.001, 1.1 * MAX_LATENCY_MS, float("nan"), float("inf")])
def test_latencies_are_finite_and_not_negative(latency_ms: float) -> None:
    for body in ({**NUMBERS, "base_ms": latency_ms}, {**NUMBERS, "cells_ms": [[1.0, latency_ms]]}):
        with pytest.raises(ValidationError):
            DeviceRequest.model_validate(body)
    DeviceRequest.model_validate({**NUMBERS, "base_ms": MAX_LATENCY_MS, "cells_ms": [[0.0]]})


def test_more_cells_or_choices_than_any_space_has() -> None:
    for cells_ms in ([[1.0]] * 65, [[1.0] * 11]):
        with pytest.raises(ValidationError, match="cells_ms"):
            DeviceRequest.model_validate({**NUMBERS, "cells_ms": cells_ms})


def test_a_report_is_measured_as_json() -> None:
    """One character takes six bytes of JSON if it must be escaped."""
    longest = {"a": "x" * (MAX_REPORT_LENGTH - len(json.dumps({"a": ""})))}
    assert DeviceRequest.model_validate({**NUMBERS, "report": longest}).report == longest
    for report in ({"a": longest["a"] + "x"}, {"a": "ü" * (MAX_REPORT_LENGTH // 5)}):
        with pytest.raises(ValidationError, match="leave details out"):
            DeviceRequest.model_validate({**NUMBERS, "report": report})


@pytest.mark.parametrize(
    ("body", "field"),
    [({"threads": 1025}, "threads"), ({"runtime": "tvm"}, "runtime"), ({"search_space": 3}, "search_space")],
)
def test_what_no_worker_measures(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MeasurementRequest.model_validate(body)
    assert {error["loc"][0] for error in caught.value.errors()} == {field}
