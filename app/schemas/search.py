"""What the service says about a search."""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.search_config import SearchConfig
from app.domain.standalone_recipe import Retraining
from app.schemas import examples
from app.schemas.retraining import RoundAgreement, StandaloneAgreement, StandaloneView
from app.schemas.webhook import WebhookView

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


class PredictorQuality(BaseModel):
    """How sure a predictor is, and how it compares with the simplest one."""

    predictor: Literal["paper", "auto"] | None = Field(description="Null in rounds of earlier versions.")
    held_out_tau: float | None = Field(
        description="Kendall's tau of the prediction against z of the held-out pairs. It says how well the supernet's "
        "own ranking is predicted, not how well networks trained by themselves are ranked."
    )
    num_held_out: int | None
    additive_tau: float | None = Field(
        description="The same of the additive baseline: ridge regression on the choices of the cells."
    )
    label_noise: float | None = Field(
        description="Estimated standard deviation of the part of z that no predictor can know, a fraction."
    )
    standalone_tau: float | None = Field(
        default=None,
        description="Tau against the accuracies of networks that were trained by themselves, each predicted without "
        "it: of a round its own, in answers of lookups those trained after the search as well; null where there are "
        "too few.",
    )
    standalone_tau_interval: tuple[float, float] | None = Field(
        default=None, description="Where that tau is with 90 %, by resampling; null with too few networks."
    )
    band_tau: float | None = Field(
        default=None,
        description="Kendall's tau against z over the held-out pairs that meet all limits of the question; null where "
        "it is undefined, and in rounds that are read without limits.",
    )
    num_in_band: int | None = Field(default=None, description="How many held-out pairs that is about, of at most 300.")


class Interval(BaseModel):
    """Where z of an architecture is to be expected."""

    level: float = Field(description="Share of the architectures whose z is inside.")
    lower: float
    upper: float


class BestArchitecture(FoundArchitecture):
    """The best re-evaluated architecture of a round, beside what the round's table had predicted for it.

    Of a job neither prediction nor interval is known.
    """

    predicted_accuracy: float | None = Field(
        default=None, description="The prediction of the round's table; null while the table is being replaced."
    )
    interval: Interval | None = Field(
        default=None, description="Where z was to be expected; null for rounds of versions without intervals."
    )


class RoundStages(BaseModel):
    """How much of each part of a round is done, in [0, 1]."""

    evaluating_subnetworks: float
    fitting_gcn: float
    retraining: float = Field(description="Of the architectures that it trains by themselves; 0 where there are none.")
    reevaluating: float


class RoundView(BaseModel):
    """Round t of a search."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ROUND]})

    round_index: int
    segment: list[int] = Field(description="L_t: the cells that vary.")
    state: Literal[
        "pending", "evaluating_subnetworks", "fitting_gcn", "retraining", "reevaluating", "fitting_space", "done"
    ]
    progress: float
    stages: RoundStages
    subspace_size: int | None = Field(description="|S_t|; null before the round has begun.")
    num_sampled: int = Field(description="Architectures evaluated so far.")
    num_reevaluated: int
    held_out_tau: float | None = Field(
        description="Kendall's tau of the prediction against the held-out pairs. It says how well the supernet's own "
        "ranking is predicted, not how well networks trained by themselves are ranked."
    )
    quality: PredictorQuality | None = Field(description="How sure the predictor is; null before it is fitted.")
    standalone: RoundAgreement | None = Field(
        description="The table's agreement with networks trained by themselves; null with fewer than 3 of them."
    )
    fit_report: dict[str, Any] | None
    best: BestArchitecture | None = Field(
        description="The best re-evaluated architecture; `accuracy` is what re-evaluation found."
    )
    preserved: list[str] = Field(description="Codes of the architectures kept for the next round, best first.")
    table_digest: str | None = Field(description="SHA-256 of the lookup table's bytes; null before it is published.")
    num_rows: int | None = Field(description="Architectures in the lookup table; null before it is published.")
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class SearchSummary(BaseModel):
    """A search, or a job about an architecture of one, in a list."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SUMMARY]})

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

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SEARCH]})

    final: BestArchitecture | None = Field(
        description="The best re-evaluated architecture of the whole search, beside what the table of its last round "
        "had predicted; of a retraining, what it trained, with z*."
    )
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
    webhook: WebhookView | None = Field(default=None, description="Who is told when it ends, if anybody.")


class PairView(BaseModel):
    """An arch-accuracy pair (M, z)."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PAIR]})

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
    interval: Interval | None = Field(
        description="Of z; null where too few left-out pairs could say, and in rounds of earlier versions."
    )


class SpacePredictionView(BaseModel):
    """What the predictor of the whole space says of an architecture."""

    predicted_accuracy: float
    interval: Interval | None = Field(
        description="Of z; null where too few left-out pairs could say, and in searches of earlier versions."
    )


class ArchitectureView(BaseModel):
    """All that a search knows of one architecture."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ARCHITECTURE]})

    code: str
    readable: str
    multi_adds: int
    params: int
    proxy_multi_adds: int
    proxy_params: int
    is_reevaluated: bool
    pairs: list[PairView]
    standalone: list[StandaloneView] = Field(description="Its accuracies after training by itself, the latest first.")
    predictions: list[PredictionView] = Field(description="Of the rounds whose subspace it is in.")
    space_prediction: SpacePredictionView | None = Field(description="Null until the space is fitted.")
