"""What the pipeline takes and gives, and the ports behind which torch and the database are.

A step function gets a :class:`Step` and its :class:`Search`, works through :class:`Networks` and :class:`Reader`, and
returns an :class:`Outcome`, which the store writes in one transaction. It changes nothing by itself: it can run again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.architecture_export import Export
from app.domain.device_measurement import DeviceMeasurement
from app.domain.latency import LatencyTable
from app.domain.lookup_table import LookupTable
from app.domain.prediction_interval import PredictionInterval
from app.domain.search_config import SearchConfig
from app.domain.search_space import Architecture, SearchSpace
from app.domain.standalone_recipe import Retraining
from app.domain.steps import PairSource, StepKind
from app.domain.subspace import Subspace
from app.domain.whole_space.model import WholeSpaceModel

Report = Callable[[float, Mapping[str, Any] | None], None]
"""Takes the done fraction of a step in [0, 1] and details to show; raises :class:`StepInterrupted` if it shall stop."""


class StepInterrupted(Exception):  # noqa: N818 - not an error: the search was cancelled, or the worker shuts down
    """The step shall stop now; it will be run again from its last checkpoint, if at all."""


class LeaseLostError(StepInterrupted):
    """Another worker has the step by now: nothing of this attempt may be stored."""


class UntrainableError(ValueError):
    """An architecture's training by itself diverged."""


@dataclass(frozen=True)
class Search:
    """A search as the pipeline sees it; its configuration is resolved.

    Attributes:
        id: Identifier, also the name of its artifacts.
        dataset: Name of the image data set.
        space: The target search space S.
        config: All dials.
        upload_id: The upload that the data set is; None: one of the operator's.
    """

    id: str
    dataset: str
    space: SearchSpace
    config: SearchConfig
    upload_id: str | None = None


@dataclass(frozen=True)
class Step:
    """A claimed unit of work.

    Attributes:
        id: Identifier.
        kind: What is to be done.
        round_index: The round t; None for step 0.
        shard_index: Which shard of the stage.
        payload: What the step needs, as JSON data.
        attempt: Fencing token of the claim.
    """

    id: int
    kind: StepKind
    round_index: int | None
    shard_index: int
    payload: Mapping[str, Any]
    attempt: int


@dataclass(frozen=True)
class NewStep:
    """A step that becomes ready."""

    kind: StepKind
    round_index: int | None
    shard_index: int = 0
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """An arch-accuracy pair (M, z).

    Attributes:
        code: M.
        accuracy: z, a fraction of D_val.
        held_out: Kept out of the fit, for tau.
    """

    code: str
    accuracy: float
    held_out: bool = False


@dataclass(frozen=True)
class FittedTable:
    """The table of a round with how well its predictor fits.

    Attributes:
        table: Predictions and costs of the whole subspace.
        held_out_tau: Kendall's tau of f against z on the held-out pairs; None where undefined.
        report: Figures of the fit, as JSON data.
    """

    table: LookupTable
    held_out_tau: float | None
    report: Mapping[str, Any]


@dataclass(frozen=True)
class StandaloneAccuracy:
    """The result of a retraining.

    Attributes:
        search_id: The search whose architecture it is.
        retraining: What was trained and how.
        accuracy: z*, a fraction of D_val and of images that the search leaves out.
        artifact: Where the weights lie, below the artifact URL.
    """

    search_id: str
    retraining: Retraining
    accuracy: float
    artifact: str


@dataclass(frozen=True)
class MeasuredDevice:
    """The result of a measurement.

    Attributes:
        measurement: What was measured.
        latencies: Milliseconds of the choices.
        report: How it was measured, and how well latencies add up, as JSON data.
    """

    measurement: DeviceMeasurement
    latencies: LatencyTable
    report: Mapping[str, Any]


@dataclass(frozen=True)
class StandaloneLabel:
    """A true label of a search's own: an architecture that a round trained by itself.

    Attributes:
        round_index: The round.
        code: M.
        accuracy: z*, a fraction of D_val and of images that the search leaves out.
        predictions: Normal scores of what the round's base predictors said of it, the safest first.
    """

    round_index: int
    code: str
    accuracy: float
    predictions: tuple[float, ...]


@dataclass(frozen=True)
class OpenedRound:
    """A round that begins."""

    round_index: int
    subspace: Subspace


@dataclass(frozen=True)
class ClosedRound:
    """What a round found: its best re-evaluated architecture M_t*, and all that are preserved, best first."""

    best_code: str
    best_accuracy: float
    preserved: tuple[str, ...]


@dataclass(frozen=True)
class FittedSpace:
    """A predictor of the whole space S, fitted on the pairs of all rounds.

    Attributes:
        model: What answers questions under limits.
        report: Figures of the fit, as JSON data.
    """

    model: WholeSpaceModel
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a step has to be stored with, and what follows.

    Attributes:
        pairs: New pairs of the step's round.
        pair_source: Where they come from.
        fitted: The round's table.
        closed_round: The result of the step's round.
        opened_round: A round that begins.
        fitted_space: The predictor of the whole space.
        next_steps: Steps that become ready now.
        when_stage_done: The step that becomes ready when all shards of this step's stage are done.
        standalone: The accuracy of an architecture trained by itself.
        device: The latencies of a device.
        search_done: Whether this was the last step of the search; its result is that of the closed round, or z*.
        result: Figures of the step itself, as JSON data.
    """

    pairs: tuple[Pair, ...] = ()
    pair_source: PairSource = "sampled"
    fitted: FittedTable | None = None
    closed_round: ClosedRound | None = None
    opened_round: OpenedRound | None = None
    fitted_space: FittedSpace | None = None
    next_steps: tuple[NewStep, ...] = ()
    when_stage_done: NewStep | None = None
    standalone: StandaloneAccuracy | None = None
    device: MeasuredDevice | None = None
    search_done: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """A predictor's output over a whole subspace.

    Attributes:
        predicted_accuracy: f(M) of every architecture, float32 [size].
        report: Figures of the fit, as JSON data.
        interval: Where z is to be expected around a prediction; None: the predictor does not say.
        left_out: What would be predicted of fitted architectures without their pairs, by their index in the subspace.
    """

    predicted_accuracy: npt.NDArray[np.float32]
    report: Mapping[str, Any]
    interval: PredictionInterval | None = None
    left_out: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Retrained:
    """A network trained by itself.

    Attributes:
        accuracy: z*, a fraction of D_val and of images that the search leaves out.
        artifact: Where the weights lie, below the artifact URL.
        figures: Of the training, as JSON data.
    """

    accuracy: float
    artifact: str
    figures: Mapping[str, Any]


class Networks(Protocol):
    """The torch side of a search. All methods are deterministic in the search and their arguments."""

    def train_supernet(self, search: Search, report: Report) -> Mapping[str, Any]:
        """Train the supernet (step 0), or go on from its last checkpoint; return figures of the training."""

    def evaluate(self, search: Search, architectures: Sequence[Architecture], report: Report) -> list[float]:
        """Return z of each architecture, in the order given: the accuracy of its sub-network on D_val."""

    def fit(
        self,
        search: Search,
        round_index: int,
        subspace: Subspace,
        index_N: npt.NDArray[np.int64],
        accuracy_N: npt.NDArray[np.float64],
        report: Report,
    ) -> Fit:
        """Fit the predictor to pairs of a subspace (step 2) and predict all of it."""

    def fit_space(self, search: Search, accuracies: Mapping[Architecture, float], report: Report) -> FittedSpace:
        """Fit a predictor of the whole space to all pairs, and prepare it for questions under limits."""

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        """Train one architecture of a search by itself, or go on from its last checkpoint.

        Args:
            search: The search.
            job_id: Under which its artifacts lie: a job's id, or ``<search id>/<folder>`` of a step of the search.
            retraining: What to train, and how.
            report: Takes the progress.

        Raises:
            UntrainableError: If the loss or the weights became NaN or infinite.
        """

    def export(self, search: Search, job_id: str, export: Export, report: Report) -> Mapping[str, Any]:
        """Write the network of one architecture of a search to the artifacts of a job; return figures of it."""

    def measure_device(self, space: SearchSpace, wanted: DeviceMeasurement, report: Report) -> MeasuredDevice:
        """Measure the latencies of a search space's choices on the worker's machine."""


class Reader(Protocol):
    """What a step reads of what earlier steps stored."""

    def subspace(self, search: Search, round_index: int) -> Subspace:
        """Return S_t of a round that has begun."""

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        """Return a round's pairs of one source, sorted by code."""

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        """Return the predicted accuracies of some rows of a round's table."""

    def table(self, search: Search, round_index: int) -> LookupTable:
        """Return the whole table that a round has published last."""

    def fit_report(self, search: Search, round_index: int) -> Mapping[str, Any]:
        """Return the figures that were published with it."""

    def labels(self, search: Search) -> list[StandaloneLabel]:
        """Return the architectures that the search has trained by themselves so far, sorted by round and code."""
