"""Answers from the lookup tables."""

import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import examples
from app.schemas.search import Interval, PredictorQuality, Range


class LookupItem(BaseModel):
    """An architecture of a lookup table."""

    rank: int = Field(description="1 is the best.")
    code: str = Field(description="One digit per cell: the index of its choice.")
    readable: str = Field(description="The names of the choices.")
    predicted_accuracy: float = Field(description="f(M), a fraction.")
    interval: Interval | None = Field(
        description="Where its z is to be expected; null where fewer than 19 left-out pairs could say, and for "
        "tables of earlier versions."
    )
    sampled_accuracy: float | None = Field(description="z, if a round of the search sampled it.")
    reevaluated_accuracy: float | None = Field(description="z of the re-evaluation, if it was among a round's top.")
    is_reevaluated: bool = Field(description="Whether it was evaluated once more after the predictor had chosen it.")
    multi_adds: int = Field(description="Of the target network, per image.")
    params: int = Field(description="Of the target network.")
    latency_ms: dict[str, float] = Field(
        default_factory=dict, description="On the devices that were asked for, by name."
    )


class MillisecondRange(BaseModel):
    """The fastest and the slowest architecture, in milliseconds."""

    min: float
    max: float


class CostRanges(BaseModel):
    """Ranges of the costs, each by itself."""

    multi_adds: Range
    params: Range
    latency_ms: dict[str, MillisecondRange] = Field(
        default_factory=dict, description="On the devices that were asked for, by name."
    )


class TableView(BaseModel):
    """The table that was asked."""

    search_id: uuid.UUID
    round_index: int
    num_rows: int = Field(description="Architectures in the table.")
    table_digest: str
    feasible: CostRanges = Field(description="What the table's architectures cost: no limit below can be met.")


class LookupAnswer(TableView):
    """The best architectures under the limits, best first, of a table or of the whole space."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.LOOKUP]})

    scope: Literal["table", "space"]
    round_index: int | None = Field(description="The table's round; null for the whole space.")  # type: ignore[assignment]
    num_rows: int = Field(description="Architectures in the table, or in the whole space.")
    table_digest: str | None = Field(description="Null for the whole space.")  # type: ignore[assignment]
    is_exact: bool = Field(
        description="Whether it is proven that no other has a higher prediction: always for a table, for the whole "
        "space where the additive part alone decides, unless many limits are too tight together for the time of "
        "a question. Where it is false there may be better ones, and more than the items."
    )
    quality: PredictorQuality | None = Field(description="Null where the search has no figures of its fit.")
    items: list[LookupItem]
    message: str | None = Field(description="Why there are no items, if there are none.")


class ParetoAnswer(TableView):
    """The architectures that no other beats in both predicted accuracy and cost, cheapest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PARETO]})

    quality: PredictorQuality | None = Field(description="Of the whole table; null where it has no figures of its fit.")
    items: list[LookupItem]
