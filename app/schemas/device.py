"""Devices: what a request registers, and what is known of one."""

import datetime as dt
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from app.domain.device_measurement import Runtime
from app.domain.latency import MAX_LATENCY_MS, LatencyTable
from app.schemas import examples
from app.schemas.search_request import SpaceReference
from app.schemas.strict_numbers import refuse_boolean
from app.schemas.webhook import WebhookRequest

MAX_REPORT_LENGTH = 20_000

Milliseconds = Annotated[float, Field(ge=0, le=MAX_LATENCY_MS, allow_inf_nan=False)]


_EXAMPLES: list[JsonValue] = [
    {
        "search_space": "nas-bench-macro",
        "base_ms": 0.41,
        "cells_ms": [[0.05, 0.31, 0.68] for _ in range(8)],
    },
    {"search_space": "nas-bench-macro", "csv": LatencyTable(0.41, ((0.05, 0.31, 0.68),) * 8).to_csv()},
]


class DeviceRequest(BaseModel):
    """Latencies for one image, measured elsewhere: as numbers, or as the lines of a CSV file."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": _EXAMPLES},
    )

    search_space: SpaceReference = Field(
        default="fairnas", description="The space whose networks were measured: a preset's name, or one of your own."
    )
    base_ms: Milliseconds | None = Field(default=None, description="Stem and head, in milliseconds.")
    cells_ms: list[Annotated[list[Milliseconds], Field(max_length=10)]] | None = Field(
        default=None, max_length=64, description="`cells_ms[cell][choice]`, in milliseconds."
    )
    csv: str | None = Field(
        default=None,
        max_length=100_000,
        description="Instead of the two: lines `cell,choice,latency_ms`, with `base,,1.9` for stem and head; a choice "
        "by its index or its name.",
    )

    report: dict[str, JsonValue] | None = Field(
        default=None, description="How it was measured, as the script that measures on a target writes it."
    )

    _numbers_are_numbers = field_validator("base_ms", "cells_ms", mode="before")(refuse_boolean)

    @model_validator(mode="after")
    def _short_report(self) -> Self:
        if self.report is not None and len(json.dumps(self.report)) > MAX_REPORT_LENGTH:
            raise ValueError(f"the report is longer than {MAX_REPORT_LENGTH} characters of JSON; leave details out")
        return self

    @model_validator(mode="after")
    def _numbers_or_lines(self) -> Self:
        numbers = (self.base_ms is not None, self.cells_ms is not None)
        if self.csv is None and not all(numbers):
            raise ValueError("give base_ms and cells_ms, or csv")
        if self.csv is not None and any(numbers):
            raise ValueError("give either csv, or base_ms and cells_ms, not both")
        return self


class MeasurementRequest(WebhookRequest):
    """What a worker shall measure on the machine that it runs on."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"search_space": "fairnas", "threads": 1}]}
    )

    search_space: SpaceReference = Field(
        default="fairnas", description="The space whose networks are measured: a preset's name, or one of your own."
    )
    runtime: Runtime = Field(
        default="onnxruntime", description="`onnxruntime` on the CPU, or `torch` on what the worker trains on, a GPU."
    )
    threads: int = Field(default=1, ge=0, le=1024, description="CPU threads per image; 0: all cores.")


class DeviceView(BaseModel):
    """The latencies of a search space's choices on a device, for one image."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DEVICE]})

    name: str
    search_space: str = Field(description="The space's name when the latencies were given.")
    is_shared: bool = Field(description="Whether every owner may use it.")
    origin: Literal["measured", "uploaded"]
    created_at: dt.datetime
    base_ms: float = Field(description="Stem and head.")
    cells_ms: list[list[float]] = Field(description="`cells_ms[cell][choice]`.")
    min_ms: float = Field(description="The fastest network of the space.")
    max_ms: float = Field(description="The slowest network of the space.")
    report: dict[str, Any] | None = Field(
        description="Of a measured device: how it was measured, the spread, and the error of the sum on whole networks."
    )


class DeviceList(BaseModel):
    """Devices, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [examples.DEVICE]}]})

    items: list[DeviceView]
