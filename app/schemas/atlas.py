"""What the charts of the pages draw."""

import uuid

from pydantic import BaseModel, Field


class Density(BaseModel):
    """A whole lookup table as a histogram over multi-adds and predicted accuracy, and the best of it one by one."""

    search_id: uuid.UUID
    round_index: int
    num_rows: int
    min_multi_adds: int
    max_multi_adds: int
    min_params: int
    max_params: int
    min_accuracy: float
    max_accuracy: float
    cost_bins: int
    accuracy_bins: int
    cells: list[tuple[int, int, int, int, int]] = Field(
        description="Per cell that is not empty: bin of the multi-adds, bin of the accuracy, number of architectures, "
        "the fewest parameters, the fewest multi-adds."
    )
    band: list[tuple[int, float, int, int, int]] = Field(
        description="Subspace index, predicted accuracy, multi-adds, parameters and how many beat it."
    )
    num_front: int = Field(description="How many of the first rows of the band are beaten by none.")


class Within(BaseModel):
    """What of a table meets some limits."""

    within: int = Field(description="Architectures that meet all of them.")
    num_rows: int
    front: list[tuple[int, float, int, int]] | None = Field(
        default=None,
        description="Under limits of latencies: subspace index, predicted accuracy, multi-adds and parameters of those "
        "within that no other within beats in accuracy and multi-adds, cheapest first. Null without: then the band has "
        "all that it takes.",
    )
    band: list[int] | None = Field(
        default=None, description="Under limits of latencies: the rows of the picture's band that are within."
    )
    cells: list[int] | None = Field(
        default=None,
        description="Under limits of latencies: the places of the picture's cells with any architecture that is within "
        "all limits but that of the multi-adds.",
    )


class FitPoint(BaseModel):
    """An evaluated architecture beside what the round's table predicts for it."""

    code: str
    predicted_accuracy: float
    accuracy: float
    held_out: bool


class RoundFit(BaseModel):
    """How a round's predictions compare with what its sub-networks reached."""

    round_index: int
    held_out_tau: float | None
    sampled: list[FitPoint]
    reevaluated: list[FitPoint]


class TrainingCurve(BaseModel):
    """The supernet's training, epoch by epoch."""

    epochs: int = Field(description="That there will be.")
    points: list[tuple[int, float, float]] = Field(
        description="Epoch, loss, and accuracy of the sampled paths on their training images, a fraction."
    )
