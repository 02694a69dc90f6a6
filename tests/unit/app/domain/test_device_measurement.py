"""What is to be measured of a device survives the way to the worker, and takes nothing that cannot be done."""

import pytest
from pydantic import ValidationError

from app.domain.device_measurement import DeviceMeasurement


def test_by_default_it_is_onnxruntime_with_one_thread() -> None:
    wanted = DeviceMeasurement(name="laptop", owner=None)
    assert (wanted.runtime, wanted.threads) == ("onnxruntime", 1)


@pytest.mark.parametrize("threads", [0, 1, 1024])
def test_it_survives_a_steps_payload(threads: int) -> None:
    wanted = DeviceMeasurement(name="gpu-0", owner="alice", runtime="torch", threads=threads)
    assert DeviceMeasurement.model_validate(wanted.model_dump(mode="json")) == wanted


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"threads": -1}, "threads"), ({"threads": 1025}, "threads"), ({"runtime": "tensorrt"}, "runtime")],
)
def test_what_cannot_be_measured(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        DeviceMeasurement.model_validate({"name": "laptop", "owner": None, **changes})


def test_an_owner_must_be_said() -> None:
    """Left out by accident, a private device would be everybody's."""
    with pytest.raises(ValidationError, match="owner"):
        DeviceMeasurement.model_validate({"name": "laptop"})
    with pytest.raises(ValidationError, match="user"):
        DeviceMeasurement.model_validate({"name": "laptop", "owner": None, "user": "alice"})
