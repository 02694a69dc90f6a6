"""What is to be measured of a device, as a job hands it to a worker."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Runtime = Literal["onnxruntime", "torch"]


class DeviceMeasurement(BaseModel):
    """The measurement of the machine that a worker runs on.

    Attributes:
        name: The device.
        owner: Whose it will be; None: everybody's.
        runtime: What runs the networks: onnxruntime on the CPU, or torch on the worker's own device (a GPU's name
            then).
        threads: CPU threads; 0: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    owner: str | None
    runtime: Runtime = "onnxruntime"
    threads: int = Field(default=1, ge=0, le=1024)
