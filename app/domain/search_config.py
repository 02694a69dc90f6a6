"""The configuration of a search: every value of the paper is a named field (section 4.1).

The ``paper`` preset holds the paper's values, ``quick`` fits a laptop. A request names one and changes what it wants.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from app.domain.latency import MAX_LATENCY_MS, LatencyTable
from app.domain.names import DEVICE_NAME_PATTERN
from app.domain.rounds import default_architecture, round_segments, searched_cells
from app.domain.search_space import SearchSpace, check_segments
from app.domain.strict_numbers import check_no_boolean
from app.domain.subspace import MAX_SUBSPACE_SIZE
from app.domain.supernet_size import check_supernet_size
from app.domain.target_limits import check_targets

PresetName = Literal["paper", "quick"]
BNStatistics = Literal["recalibrated", "running", "batch"]
Fairness = Literal["uniform", "strict"]
Similarity = Literal["assigned", "measured"]
PredictorName = Literal["paper", "auto"]
Augmentation = Literal["none", "crop", "crop-flip"]
Initialisation = Literal["aligned", "independent"]

MIN_FITTED_PAIRS = 10
"""Fewer arch-accuracy pairs than this do not determine a fit."""

MAX_UNIT_RESIDUAL_CELLS = 12
"""Networks with more cells start their residual branches at zero."""

Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, le=MAX_LATENCY_MS, allow_inf_nan=False, strict=True)]
DeviceName = Annotated[str, Field(pattern=DEVICE_NAME_PATTERN)]


def _without_booleans(table: Any) -> Any:
    for value in table.values() if isinstance(table, dict) else ():
        check_no_boolean(value)
    return table


_MILLISECONDS = {"type": "number", "minimum": 0, "maximum": MAX_LATENCY_MS}
_LATENCIES_SCHEMA = {
    "type": "object",
    "description": "Milliseconds of stem and head, and of every choice of every cell.",
    "properties": {
        "base_ms": _MILLISECONDS,
        "cells_ms": {"type": "array", "items": {"type": "array", "items": _MILLISECONDS}},
    },
    "required": ["base_ms", "cells_ms"],
}
Latencies = Annotated[LatencyTable, BeforeValidator(_without_booleans), WithJsonSchema(_LATENCIES_SCHEMA)]


class SearchConfig(BaseModel):
    """All dials of a search. The defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, lt=2**31, description="Same seed, same table, byte for byte.")

    # data and proxy
    num_classes: int | None = Field(
        default=None, ge=2, le=100_000, description="Random class subset; null: all classes."
    )
    num_images: int | None = Field(
        default=None, ge=20, lt=2**31, description="Stratified cap on the images used; null: all."
    )
    validation_fraction: float = Field(default=0.1, ge=0.01, le=0.5, description="Share of the images in D_val.")
    proxy_resolution: int | None = Field(
        default=None, ge=4, le=512, description="Pixels the networks see; null: the target's."
    )
    proxy_width: float = Field(
        default=1.0, ge=0.05, le=1.0, description="Multiplier of the trained networks' channels."
    )

    # step 0: supernet training
    epochs: int = Field(default=150, ge=1, le=100_000)
    batch_size: int = Field(
        default=1024, ge=2, le=65_536, description="Images per iteration, over all devices together; BN needs two."
    )
    learning_rate: Rate = Field(default=0.18, description="Initial; anneals to 0 by the cosine schedule.")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: Fraction = 4e-5
    augmentation: Augmentation = "crop-flip"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    initialisation: Initialisation = Field(
        default="aligned", description="How the choices of a cell start: as one function, or each drawn by itself."
    )
    residual_scale: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="BN scale that residual branches start with; null: 1, but 0 for aligned choices beyond 12 cells. "
        "At 0 a supernet learns little in these cells and ranks architectures by the others; at 1 a deep proxy learns "
        "nothing within a laptop's budget.",
    )
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1, description="Share of iterations with a rising rate.")
    max_gradient_norm: Rate | None = Field(default=None, description="Longer gradients are scaled down.")

    fairness: Fairness = Field(
        default="uniform",
        description="One random path per iteration, or (strict) paths that hold every choice once, for one update.",
    )

    # step 1: sub-network sampling
    segments: tuple[tuple[int, ...], ...] | None = Field(
        default=None, description="L_t by cells; null: the space's own."
    )
    segment_order: Literal["front_to_back", "back_to_front"] = "front_to_back"
    num_rounds: int | None = Field(
        default=None, ge=1, le=64, description="T; beyond the segments it cycles; null: one each."
    )
    initial_architecture: str | None = Field(default=None, max_length=64, description="Code of M_0; null: all K3E6.")
    num_sampled: int = Field(default=2000, ge=1, le=1_000_000, description="Architectures sampled in every round.")
    num_held_out: int | None = Field(default=None, ge=2, description="Of them, kept for tau; null: a tenth.")
    bn_statistics: BNStatistics = Field(
        default="recalibrated",
        description="BN statistics of an evaluated sub-network: its own (on calibration images, or on each batch that "
        "is evaluated), or the supernet's running ones.",
    )
    num_calibration_images: int = Field(default=1000, ge=2, le=100_000)

    # step 2: the predictor and its GCN
    predictor: PredictorName = Field(
        default="auto",
        description="The paper's GCN alone, or `auto`: nearly additive, the safest against a supernet's artefacts.",
    )
    similarity: Similarity = "assigned"
    hamming_threshold: Literal[1, 2] = 1
    gcn_hidden_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(512, 512), min_length=2, max_length=2
    )
    gcn_epochs: int = Field(default=600, ge=1, le=100_000)
    gcn_learning_rate: Rate = 0.01
    gcn_weight_decay: Fraction = 5e-4
    gcn_milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(0.5, 0.75), max_length=8)
    gcn_decay: Fraction = 0.1

    # true labels
    num_standalone: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Architectures that the search trains by themselves, over all rounds; their accuracies z* decide "
        "how predictors are blended; fewer than four change nothing. 0: none, as in the paper.",
    )
    standalone_start: Literal["scratch", "supernet"] = Field(
        default="scratch",
        description="Fresh weights, or fine-tuned from the supernet's: quicker, but its errors stay in part, "
        "so labels move predictions less.",
    )
    standalone_epochs: int | None = Field(
        default=None, ge=1, le=100_000, description="Null: those of the recipe `small`, fewer from the supernet."
    )

    # step 3: re-evaluation
    num_reevaluated: int = Field(default=100, ge=1, le=100_000)
    num_preserved: int = Field(default=6, ge=1, le=100)
    preserve_by: Literal["reevaluated", "weighted"] | None = Field(
        default=None,
        description="The best are those of the highest re-evaluated accuracy (the paper's), or of prediction and "
        "re-evaluation weighed by their errors; null: weighted, but the paper's for `predictor: paper` without labels.",
    )
    target_madds: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(),
        max_length=16,
        description="Limits, in millions, that will be asked for: every round keeps an architecture for each of them.",
    )
    target_params: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(), max_length=16, description="The same on parameters, in millions."
    )
    target_latency_ms: dict[DeviceName, Annotated[tuple[Milliseconds, ...], Field(min_length=1, max_length=16)]] = (
        Field(
            default={},
            max_length=16,
            description='The same on latencies, in milliseconds by device: `{"pixel": [30, 20]}`.',
        )
    )
    device_latencies: dict[DeviceName, Latencies] = Field(
        default={},
        max_length=16,
        description="Latencies of the devices of `target_latency_ms`, for which later changes make no difference. "
        "Those left out are the registered ones of the moment of submission.",
    )

    @property
    def held_out(self) -> int:
        """Pairs kept for the held-out tau: as configured, or a tenth of the sampled ones."""
        return self.num_held_out if self.num_held_out is not None else max(2, round(self.num_sampled / 10))

    @property
    def weighs_errors(self) -> bool:
        """Whether the best are chosen by prediction and re-evaluation together."""
        if self.preserve_by is not None:
            return self.preserve_by == "weighted"
        return self.num_standalone > 0 or self.predictor == "auto"

    @model_validator(mode="after")
    def _counts_fit_together(self) -> Self:
        if self.num_sampled - self.held_out < MIN_FITTED_PAIRS:
            raise ValueError(
                f"num_sampled is {self.num_sampled} with {self.held_out} held out: {self.num_sampled - self.held_out} "
                f"pairs are left to fit, and fitting needs at least {MIN_FITTED_PAIRS}; raise num_sampled"
            )
        if self.num_preserved > self.num_reevaluated:
            raise ValueError(
                f"num_preserved ({self.num_preserved}) must not exceed num_reevaluated ({self.num_reevaluated}), "
                "from which they are taken"
            )
        return self

    def resolved(self, space: SearchSpace) -> "SearchConfig":
        """Return the configuration with every default that depends on the space filled in, checked against the space.

        Raises:
            ValueError: If segments, rounds, the initial architecture or the numbers do not fit the space.
        """
        segments = self.segments if self.segments is not None else space.segments
        check_segments(segments, space.num_cells)
        num_rounds = self.num_rounds or len(segments)
        if num_rounds > 1 and len(segments) == 1:
            raise ValueError(
                "several rounds need at least two segments: the cells of a round cannot be searched in the next one"
            )
        initial = self.initial_architecture or space.code(default_architecture(space))
        space.parse_code(initial)
        config = self.model_copy(
            update={
                "segments": tuple(tuple(sorted(segment)) for segment in segments),
                "num_rounds": num_rounds,
                "initial_architecture": initial,
                "num_held_out": self.held_out,
                "residual_scale": self._residual_scale(space),
            }
        )
        config._check_subspaces(space)
        check_targets(config, space, searched_cells(config))
        config._check_used()
        check_supernet_size(
            space.proxy(resolution=config.proxy_resolution, width=config.proxy_width, num_classes=config.num_classes)
        )
        if config.num_standalone > config.num_sampled * num_rounds:
            raise ValueError(
                f"num_standalone is {config.num_standalone}, but {num_rounds} rounds of num_sampled="
                f"{config.num_sampled} sample fewer; lower it to at most {config.num_sampled * num_rounds}"
            )
        return config

    def _residual_scale(self, space: SearchSpace) -> float:
        if self.residual_scale is not None:
            return self.residual_scale
        return default_residual_scale(space) if self.initialisation == "aligned" else 1.0

    def _check_used(self) -> None:
        """Check that what shapes a GCN's graph is not given where there is no GCN; not of searches stored before."""
        if self.predictor == "auto" and not self.num_standalone:
            ignored = [
                f"{name}={getattr(self, name)}"
                for name, usual in (("similarity", "assigned"), ("hamming_threshold", 1))
                if getattr(self, name) != usual
            ]
            if ignored:
                raise ValueError(
                    f"{' and '.join(ignored)} shapes the graph of the GCN, which predictor 'auto' uses only with true "
                    "labels: set predictor to 'paper', or num_standalone, or leave it out"
                )

    def _check_subspaces(self, space: SearchSpace) -> None:
        """Check the smallest and the largest size that each round's subspace can have, before any memory is taken."""
        schedule = round_segments(self)
        for round_index, segment in enumerate(schedule):
            size = 1
            for cell_index in segment:
                size *= space.num_choices[cell_index]
            revisits = round_index >= len(self.segments or ())
            smallest = size if round_index == 0 or revisits else size * self.num_preserved
            largest = size if round_index == 0 else size * self.num_preserved
            if largest > MAX_SUBSPACE_SIZE:
                raise ValueError(
                    f"round {round_index} would have up to {largest:,} architectures, and a table holds "
                    f"{MAX_SUBSPACE_SIZE:,}: use shorter segments"
                )
            if smallest < MIN_FITTED_PAIRS + 2:
                raise ValueError(
                    f"the subspace of round {round_index} (cells {list(segment)}) has {smallest} architectures, too "
                    f"few to fit and to hold some out ({MIN_FITTED_PAIRS + 2} are needed); use longer segments"
                )
            for name in ("num_sampled", "num_reevaluated"):
                if getattr(self, name) > smallest:
                    raise ValueError(
                        f"{name} is {getattr(self, name)}, but the subspace of round {round_index} (cells "
                        f"{list(segment)}) has {smallest} architectures; lower {name} to at most {smallest}, or use "
                        "longer segments"
                    )


def default_residual_scale(space: SearchSpace) -> float:
    """Return the BN scale at which residual branches of a space's networks start (measured: docs/reproduction.md)."""
    return 1.0 if space.num_cells <= MAX_UNIT_RESIDUAL_CELLS else 0.0


_QUICK: dict[str, Any] = {
    "num_images": 4000,
    "proxy_resolution": 32,
    "proxy_width": 0.25,
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 0.05,
    "augmentation": "crop",
    "warmup_fraction": 0.1,
    "max_gradient_norm": 1.0,
    "num_sampled": 300,
    "num_calibration_images": 256,
    "gcn_hidden_sizes": (128, 128),
    "gcn_epochs": 300,
    "num_reevaluated": 30,
}

_PAPER: dict[str, Any] = {
    "num_classes": 100,
    "bn_statistics": "running",
    "initialisation": "independent",
    "predictor": "paper",
}


def from_preset(name: str, overrides: dict[str, Any]) -> SearchConfig:
    """Return a preset's configuration with some fields changed.

    Raises:
        ValueError: If there is no such preset, or a value is invalid (pydantic's ``ValidationError``).
    """
    presets = {"paper": _PAPER, "quick": _QUICK}
    if name not in presets:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(presets)}")
    return SearchConfig.model_validate({**presets[name], **overrides})
