"""What the service says about a search."""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.domain.search_config import SearchConfig
from app.domain.standalone_recipe import Retraining
from app.schemas.retraining import StandaloneAgreement, StandaloneView

Phase = Literal[
    "queued",
    "training_supernet",
    "evaluating_subnetworks",
    "fitting_gcn",
    "reevaluating",
    "fitting_space",
    "retraining",
    "exporting",
    "measuring",
    "done",
]
JobKind = Literal["search", "retraining", "export", "measurement"]
SearchState = Literal["queued", "running", "cancelling", "cancelled", "failed", "succeeded"]


class Range(BaseModel):
    """Smallest and largest value."""

    min: int
    max: int


class Network(BaseModel):
    """The networks of a search: what is trained (the proxy) or what limits are about (the target)."""

    resolution: int = Field(description="Input height and width in pixels.")
    width: float = Field(description="Multiplier of the search space's channels.")
    num_classes: int
    multi_adds: Range = Field(description="Of the smallest and the largest architecture, per image.")
    params: Range = Field(description="Of the smallest and the largest architecture.")


class Networks(BaseModel):
    """The network whose costs the tables hold, and the one that is trained in its place."""

    target: Network
    proxy: Network


class FoundArchitecture(BaseModel):
    """An architecture with its accuracy on D_val and the costs of its target network."""

    code: str = Field(description="One digit per cell: the index of its choice.")
    readable: str = Field(description="The names of the choices.")
    accuracy: float | None = Field(description="A fraction in [0, 1].")
    multi_adds: int
    params: int


class StepView(BaseModel):
    """A step at which a worker is right now."""

    kind: str
    round_index: int | None
    shard_index: int
    progress: float
    detail: dict[str, Any] | None = Field(description="What it reports, e.g. its epoch and loss.")


class RoundStages(BaseModel):
    """How much of each part of a round is done, in [0, 1]."""

    evaluating_subnetworks: float
    fitting_gcn: float
    reevaluating: float


class RoundView(BaseModel):
    """Round t of a search."""

    round_index: int
    segment: list[int] = Field(description="L_t: the cells that vary.")
    state: Literal["pending", "evaluating_subnetworks", "fitting_gcn", "reevaluating", "fitting_space", "done"]
    progress: float
    stages: RoundStages
    subspace_size: int | None = Field(description="|S_t|; null before the round has begun.")
    num_sampled: int = Field(description="Architectures evaluated so far.")
    num_reevaluated: int
    held_out_tau: float | None = Field(
        description="Kendall's tau of the prediction against the held-out pairs. It says how well the supernet's own "
        "ranking is predicted, not how well networks trained by themselves are ranked."
    )
    fit_report: dict[str, Any] | None
    best: FoundArchitecture | None = Field(description="The best re-evaluated architecture.")
    preserved: list[str] = Field(description="Codes of the architectures kept for the next round, best first.")
    table_digest: str | None = Field(description="SHA-256 of the lookup table's bytes; null before it is published.")
    num_rows: int | None = Field(description="Architectures in the lookup table; null before it is published.")
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class SearchSummary(BaseModel):
    """A search, or a job about an architecture of one, in a list."""

    id: uuid.UUID
    kind: JobKind = Field(description="`search`, or a job about an architecture of one, or about a device.")
    origin_id: uuid.UUID | None = Field(description="The search that a job is about.")
    state: SearchState
    phase: Phase
    progress: float = Field(ge=0, le=1)
    eta_s: float | None = Field(description="Seconds left at the rate so far; null while that is unknown.")
    error: str | None
    dataset: str
    search_space: str = Field(description="The search space's name.")
    preset: str
    num_rounds: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    final: FoundArchitecture | None = Field(
        description="The best re-evaluated architecture of the whole search; of a retraining, what it trained, with z*."
    )


class SearchView(SearchSummary):
    """A search, with everything that is known of it."""

    config: SearchConfig = Field(description="The whole configuration, defaults filled in.")
    networks: Networks
    training_progress: float = Field(
        description="How much of the training is done, in [0, 1]: the supernet's, or that of a retraining."
    )
    retraining: Retraining | None = Field(description="What a retraining trains, and how.")
    standalone: StandaloneAgreement | None = Field(
        description="Agreement with networks trained by themselves; null with fewer than 3 of them."
    )
    steps: list[StepView] = Field(description="What is being worked on now.")
    rounds: list[RoundView]


class PairView(BaseModel):
    """An arch-accuracy pair (M, z)."""

    round_index: int
    source: Literal["sampled", "reevaluated"]
    code: str
    readable: str
    accuracy: float = Field(description="z on D_val, a fraction in [0, 1].")
    held_out: bool = Field(description="Kept from the fit, to measure tau.")


class PredictionView(BaseModel):
    """What a round's lookup table says of an architecture."""

    round_index: int
    subspace_index: int
    predicted_accuracy: float


class ArchitectureView(BaseModel):
    """All that a search knows of one architecture."""

    code: str
    readable: str
    multi_adds: int
    params: int
    proxy_multi_adds: int
    proxy_params: int
    pairs: list[PairView]
    predictions: list[PredictionView]
    standalone: list[StandaloneView] = Field(description="Its accuracies after training by itself, the latest first.")
