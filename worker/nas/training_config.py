"""How a supernet is trained, where a training is, and what it did (step 0; values of section 4.1)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain.search_config import Fairness
from worker.nas.augmentation import AUGMENTATIONS, Augmentation
from worker.nas.supernet_initialisation import INITIALISATIONS, Initialisation
from worker.nas.training_state import EpochResult

_MAX_CURVE = 100
"""More epochs than this are no better to look at, and they are stored with every heartbeat."""


class TrainingDivergedError(ValueError):
    """The loss or the weights became NaN or infinite."""


@dataclass(frozen=True)
class SupernetTrainingConfig:
    """How the supernet is trained; the defaults are the paper's (section 4.1).

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per iteration, over all replicas.
        learning_rate: Initial learning rate; it falls to 0 along a cosine, iteration by iteration.
        momentum: Of SGD.
        weight_decay: Of SGD, on every parameter of the sampled path.
        augmentation: ``none``, ``crop`` (for images that a mirror changes), or ``crop-flip``.
        label_smoothing: Share of the target spread evenly over the classes.
        initialisation: How the choices of a cell start (see ``supernet_initialisation``); the paper does not say.
        residual_scale: BN scale at which residual branches start.
        warmup_fraction: Share of all iterations over which the learning rate rises from 0; the paper has none.
        fairness: ``uniform``: one random path per iteration (the paper); ``strict``: paths that hold every choice once,
            their gradients added up for one update (FairNAS).
        max_gradient_norm: Longer gradients are scaled down to this length; None (the paper) leaves them.
    """

    epochs: int = 150
    batch_size: int = 1024
    learning_rate: float = 0.18
    momentum: float = 0.9
    weight_decay: float = 4e-5
    augmentation: Augmentation = "crop-flip"
    label_smoothing: float = 0.0
    initialisation: Initialisation = "aligned"
    residual_scale: float = 1.0
    warmup_fraction: float = 0.0
    max_gradient_norm: float | None = None
    fairness: Fairness = "uniform"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 (BN needs a spread), not {self.batch_size}")
        for name, known in (("augmentation", AUGMENTATIONS), ("initialisation", INITIALISATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("momentum", "label_smoothing", "warmup_fraction"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        self._check_optimiser()

    def _check_optimiser(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, not {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0.0):
            raise ValueError(f"weight_decay must be a number of at least 0, not {self.weight_decay}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0.0:
            raise ValueError(f"max_gradient_norm must be positive, or null for none, not {self.max_gradient_norm}")


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training is.

    Attributes:
        epoch: Epochs done.
        iteration: Iterations of the current epoch that are done.
        fraction: Of the whole training, in [0, 1].
        loss: Latest loss; NaN before the first iteration.
        curve: Number, loss and accuracy of epochs done, thinned out; see :func:`training_curve`.
    """

    epoch: int
    iteration: int
    fraction: float
    loss: float
    curve: Sequence[tuple[int, float, float]] = ()


def training_curve(results: Sequence[EpochResult]) -> list[tuple[int, float, float]]:
    """Return number (from 1), loss and accuracy of epochs: of all, or of up to ``_MAX_CURVE`` evenly spaced ones."""
    stride = -(-len(results) // _MAX_CURVE) or 1
    chosen = range(len(results) - 1, -1, -stride)
    return [(i + 1, round(results[i].loss, 5), round(results[i].accuracy, 5)) for i in reversed(chosen)]


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        results: Every epoch's loss and accuracy, those before an interruption included.
        first_epoch: Epochs that a checkpoint already held when this call began.
        num_images: Images trained on by this call.
        duration_s: Time this call took.
        input_share: Share of that time spent on drawing, augmenting and normalising batches (on a GPU: on queueing it).
        warnings: Checkpoints that could not be read and were passed over for earlier ones.
    """

    results: tuple[EpochResult, ...]
    first_epoch: int
    num_images: int
    duration_s: float
    input_share: float
    warnings: tuple[str, ...] = ()

    @property
    def images_per_s(self) -> float:
        """Training images per second of this call."""
        return self.num_images / self.duration_s if self.duration_s > 0 else 0.0


OnTrainingProgress = Callable[[TrainingProgress], None]
