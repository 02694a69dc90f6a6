"""One network trained by itself, from scratch or from the supernet's weights: the stand-alone accuracy z*."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.domain.multi_adds import count
from app.domain.search_space import SearchSpace
from app.domain.seeds import derive_seed
from app.domain.standalone_recipe import StandaloneRecipe
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.data import SearchData
from worker.nas.device import autocast_dtype
from worker.nas.rmsprop import RMSProp
from worker.nas.subnetwork import Subnetwork, fresh_subnetwork, load_subnetwork, num_correct
from worker.nas.training_config import OnTrainingProgress, TrainingProgress, TrainingReport, training_curve
from worker.nas.training_loop import Iteration, SingleReplica, TrainingLoop, check_fit, trainable
from worker.nas.training_memory import images_at_once
from worker.nas.training_state import TrainingState, digest_of, load_saved_training

_RUNNING_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
STANDALONE = "standalone"
"""Name of the finished network's checkpoint."""

_LAYERS_PER_CELL = 3


@dataclass(frozen=True)
class StandaloneResult:
    """What a stand-alone training gives.

    Attributes:
        accuracy: z*, the share of D_val that the finished network classifies correctly, in [0, 1].
        network: The finished network, in evaluation mode, on the training's device.
        report: What the training did.
        images_at_once: The most images of a batch that are on the device at once, on this machine; BN's statistics
            are theirs.
    """

    accuracy: float
    network: Subnetwork
    report: TrainingReport
    images_at_once: int


def train_standalone(
    space: SearchSpace,
    architecture: Sequence[int],
    data: SearchData,
    recipe: StandaloneRecipe,
    *,
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
    inherited: dict[str, Tensor] | None = None,
    on_progress: OnTrainingProgress | None = None,
) -> StandaloneResult:
    """Train one architecture by itself, continuing where a checkpoint left off, and save it as ``"standalone"``.

    Args:
        space: The space of the network that is trained (the proxy's, or the target's).
        architecture: M.
        data: Its images; z* is measured on the validation images, on which nothing is trained or chosen.
        recipe: How to train.
        seed: Of the initial weights and of all draws.
        device: Where to train.
        checkpoints: Of this training and no other; one is written after every epoch.
        inherited: Weights to begin with, named as in :class:`~worker.nas.subnetwork.Subnetwork`; None: fresh ones.
        on_progress: Called several times a second; may raise to stop, and nothing is half-written then.

    Raises:
        ValueError: If space and data do not fit together, or not even three images into the device's memory.
        TrainingDivergedError: If the loss or the weights became NaN or infinite.
        CheckpointError: If the checkpoints belong to another training, or all are damaged.
    """
    check_fit(space, data, recipe.batch_size)
    space = space.model_copy(update={"head": space.head.model_copy(update={"dropout": recipe.dropout})})
    architecture = space.check(architecture)
    data = data.to(device)
    at_once = images_at_once(space, architecture, data, min(recipe.batch_size, len(data.train_labels_N)), device)
    digest = _digest(space, architecture, data, recipe, seed, inherited)
    saved = load_saved_training(checkpoints, STANDALONE, digest)
    if saved.results is not None:
        report = TrainingReport(tuple(saved.results), len(saved.results), 0, 0.0, 0.0)
    else:
        loop = StandaloneLoop(
            space, architecture, data, recipe, seed=seed, digest=digest, inherited=inherited, images_at_once=at_once
        )
        if saved.checkpoint is not None:
            loop.state.restore(saved.checkpoint)
        report = dataclasses.replace(loop.run(checkpoints, on_progress), warnings=saved.warnings)
    return _result(space, architecture, data, checkpoints, report, at_once, on_progress)


def load_standalone(space: SearchSpace, architecture: Sequence[int], checkpoints: CheckpointStore) -> Subnetwork:
    """Return the network that a finished training saved, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If it is missing, damaged, or of another architecture.
    """
    return load_subnetwork(space, architecture, checkpoints.load_tensors(STANDALONE).tensors)


def learning_rate_at(recipe: StandaloneRecipe, epoch: float) -> float:
    """Return the learning rate after so many epochs (a fraction within an epoch)."""
    rise = 1.0 if epoch >= recipe.warmup_epochs else epoch / recipe.warmup_epochs
    if recipe.schedule == "cosine":
        return rise * recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, epoch / recipe.epochs)))
    num_decays = math.floor(epoch / recipe.decay_epochs)
    return float(rise * recipe.learning_rate * recipe.decay**num_decays)


class StandaloneLoop(TrainingLoop):
    """Trains the whole of one network in every iteration."""

    def __init__(
        self,
        space: SearchSpace,
        architecture: Sequence[int],
        data: SearchData,
        recipe: StandaloneRecipe,
        *,
        seed: int,
        digest: str,
        inherited: dict[str, Tensor] | None,
        images_at_once: int | None = None,
    ) -> None:
        """Prepare the training; see :class:`~worker.nas.training_loop.TrainingLoop`."""
        self.recipe = recipe
        network = _initial(space, architecture, seed, inherited)
        trainable(network, data.device)
        self.parameters = list(network.parameters())
        dtype = autocast_dtype(data.device)
        scaler = torch.amp.GradScaler(data.device.type, enabled=dtype == torch.float16)
        optimizer, moments = _optimizer(self.parameters, recipe)
        floating = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
        state = TrainingState(
            network,
            optimizer,
            scaler,
            digest,
            name=STANDALONE,
            moments=moments,
            average=[tensor.clone() for tensor in floating] if recipe.ema_decay else [],
        )
        self.averaged = floating if recipe.ema_decay else []
        super().__init__(
            state,
            data,
            recipe,
            seed=seed,
            replica=SingleReplica(),
            dtype=dtype,
            multi_adds_per_layer=count(space, architecture).multi_adds // (_LAYERS_PER_CELL * space.num_cells),
            images_at_once=images_at_once,
        )

    def plan(self, epoch: int, iteration: int) -> Iteration:
        """Return all parameters."""
        return Iteration(self.parameters)

    def learning_rate(self, step: int, num_steps: int) -> float:
        """Return the learning rate of a step of all; the first step of a warm-up already moves."""
        del num_steps
        moving = 1 if step < self.recipe.warmup_epochs * self.iterations else 0
        return learning_rate_at(self.recipe, (step + moving) / self.iterations)

    def after_step(self, step: int) -> None:
        """Let the averages follow, faster in the beginning, when the weights are still far from where they end."""
        if self.averaged:
            decay = min(self.recipe.ema_decay, (1.0 + step) / (10.0 + step))
            torch._foreach_lerp_(self.state.average, self.averaged, 1.0 - decay)


def _initial(
    space: SearchSpace, architecture: Sequence[int], seed: int, inherited: dict[str, Tensor] | None
) -> Subnetwork:
    if inherited is None:
        weights = torch.Generator().manual_seed(derive_seed(seed, None, "standalone weights"))
        return fresh_subnetwork(space, architecture, weights)
    return load_subnetwork(space, architecture, inherited)


def _optimizer(
    parameters: list[torch.nn.Parameter], recipe: StandaloneRecipe
) -> tuple[torch.optim.Optimizer, tuple[str, ...]]:
    """Return the optimiser, with its state laid out for checkpoints, and the names of that state's tensors."""
    rate, momentum, weight_decay = recipe.learning_rate, recipe.momentum, recipe.weight_decay
    if recipe.optimizer == "rmsprop":
        rmsprop = RMSProp(parameters, learning_rate=rate, momentum=momentum, weight_decay=weight_decay)
        return rmsprop, ("square_avg", "momentum_buffer")
    sgd = torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=weight_decay, fused=True)
    for parameter in parameters:
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd, ("momentum_buffer",)


def _digest(
    space: SearchSpace,
    architecture: Sequence[int],
    data: SearchData,
    recipe: StandaloneRecipe,
    seed: int,
    inherited: dict[str, Tensor] | None,
) -> str:
    """Return a digest of what decides the trained weights; of an inherited network all but its BN statistics."""
    shape = tuple(data.train_images_NCHW.shape)
    parts = (
        space.model_dump_json(),
        tuple(architecture),
        recipe.model_dump_json(),
        seed,
        shape,
        sorted(inherited or ()),
    )
    # sums of another number of threads are rounded otherwise: a worker that takes over has its own last digits of them
    weights = [name for name in sorted(inherited or ()) if not name.endswith(_RUNNING_STATISTICS)]
    start = [] if inherited is None else [inherited[name] for name in weights]
    return digest_of(parts, (data.train_labels_N, data.mean_C, data.std_C, *start))


def _result(
    space: SearchSpace,
    architecture: Sequence[int],
    data: SearchData,
    checkpoints: CheckpointStore,
    report: TrainingReport,
    at_once: int,
    on_progress: OnTrainingProgress | None,
) -> StandaloneResult:
    """Judge what was saved, not what is in memory: it is what is handed out, and a resumed training judges the same."""
    try:
        network = load_standalone(space, architecture, checkpoints).to(data.device)
    except CheckpointError as error:
        raise CheckpointError(f"the network was trained, but cannot be read back: {error}") from error
    num_epochs = len(report.results)
    progress = TrainingProgress(num_epochs, 0, 1.0, report.results[-1].loss, training_curve(report.results))

    def on_batch() -> None:
        if on_progress is not None:
            on_progress(progress)

    accuracy = num_correct(network, data, on_batch=on_batch) / len(data.validation_labels_N)
    return StandaloneResult(accuracy, network, report, at_once)
