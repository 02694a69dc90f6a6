"""The loop that trains a network, whichever: batches, mixed precision, checkpoints, progress.

What an iteration trains is up to the subclass: a sampled path of a supernet (``single_path``) or a whole network
(``standalone_training``). All randomness is derived from (seed, epoch, iteration), so that a training continued from a
checkpoint equals one that was never interrupted, and every replica draws the same.

Tensors: N images of a batch, K classes, C channels, H x W pixels.
"""

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from app.domain.search_space import SearchSpace
from app.domain.seeds import derive_seed
from worker.nas.augmentation import Augmentation, augment
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.cpu_convolution import use_cpu_convolutions
from worker.nas.data import SearchData
from worker.nas.training_config import (
    OnTrainingProgress,
    TrainingDivergedError,
    TrainingProgress,
    TrainingReport,
    training_curve,
)
from worker.nas.training_state import EpochResult, TrainingState

_PROGRESS_INTERVAL_S = 0.3
_MIN_THREADED_MULTI_ADDS = 5_000_000
"""Of one layer and batch; below, threads wait for each other longer than they compute."""


class LoopConfig(Protocol):
    """What the loop itself needs to know of how a network is trained; see ``SupernetTrainingConfig``."""

    @property
    def epochs(self) -> int:
        """Passes over the training images."""

    @property
    def batch_size(self) -> int:
        """Images per iteration, over all replicas."""

    @property
    def augmentation(self) -> Augmentation:
        """What happens to a batch's images."""

    @property
    def label_smoothing(self) -> float:
        """Share of the target spread evenly over the classes."""

    @property
    def max_gradient_norm(self) -> float | None:
        """Longer gradients are scaled down to this length."""


class SingleReplica:
    """The whole batch on one device. A replica of several overrides these (see ``distributed_training``)."""

    rank = 0
    num_replicas = 1

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what is called in place of the network, so that gradients are averaged over the replicas."""
        return network

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the replicas."""
        return values


class Iteration(NamedTuple):
    """What one iteration trains.

    Attributes:
        parameters: Those that get a gradient.
        passes: Per pass over the batch, what the network takes besides the images; gradients of all passes add up.
    """

    parameters: list[nn.Parameter]
    passes: tuple[tuple[Any, ...], ...] = ((),)


def trainable(network: nn.Module, device: torch.device) -> nn.Module:
    """Bring a network into the form that trains fast on a device: channels_last, and on CPUs our convolutions."""
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's own stub lacks it
    network.to(device)
    if device.type == "cpu":
        use_cpu_convolutions(network)
    return network


def check_fit(space: SearchSpace, data: SearchData, batch_size: int, num_replicas: int = 1) -> None:
    """Check that networks of a space can be trained on data.

    Raises:
        ValueError: If classes or resolution differ, or a process would get fewer images than BN needs.
    """
    if data.resolution != space.input_resolution or data.num_classes != space.num_classes:
        raise ValueError(
            f"the space wants {space.num_classes} classes at {space.input_resolution} px, the data has "
            f"{data.num_classes} at {data.resolution} px"
        )
    if batch_size % num_replicas:
        raise ValueError(f"batch_size {batch_size} cannot be split evenly over {num_replicas} processes")
    if min(batch_size, len(data.train_labels_N)) // num_replicas < 2:
        raise ValueError(
            f"every process needs at least 2 images per iteration, for BN; there are {len(data.train_labels_N)} "
            f"training images, a batch_size of {batch_size} and {num_replicas} process(es)"
        )


class TrainingLoop(ABC):
    """One network, its optimiser and its images on one device."""

    def __init__(
        self,
        state: TrainingState,
        data: SearchData,
        config: LoopConfig,
        *,
        seed: int,
        replica: SingleReplica,
        dtype: torch.dtype | None,
        multi_adds_per_layer: int,
        images_at_once: int | None = None,
    ) -> None:
        """Prepare a training from a state's beginning; restore the state to go on with another.

        Args:
            state: The network, as :func:`trainable` makes it, and its optimiser.
            data: Its images, on the network's device.
            config: How to train.
            seed: Of all draws.
            replica: This process's part in a training by several.
            dtype: Type of mixed precision; None: none.
            multi_adds_per_layer: Of a typical layer, per image; decides how many threads are worth it.
            images_at_once: Of a larger batch, parts of at most so many follow each other, and their gradients add up
                to the batch's; BN sees a part at a time. None: the whole batch at once.
        """
        self.state, self.data, self.config, self.seed, self.replica = state, data, config, seed, replica
        self.device, self.dtype = data.device, dtype
        # nn.Dropout draws from torch's global generator, whose state no checkpoint holds.
        self.dropout = _seed_dropout(state.network, self.device)
        self.iterations = max(1, len(data.train_labels_N) // config.batch_size)
        self.multi_adds_per_layer = multi_adds_per_layer
        part = self._images_per_batch() // replica.num_replicas
        self.num_parts = 1 if images_at_once is None else -(-part // images_at_once)
        self.input_s = 0.0
        self.last_progress = -math.inf

    @abstractmethod
    def plan(self, epoch: int, iteration: int) -> Iteration:
        """Return what an iteration trains."""

    @abstractmethod
    def learning_rate(self, step: int, num_steps: int) -> float:
        """Return the learning rate of a step of all."""

    def after_step(self, step: int) -> None:
        """Called when the optimiser has made a step; by default nothing is left to do."""
        del step

    def run(self, checkpoints: CheckpointStore, on_progress: OnTrainingProgress | None) -> TrainingReport:
        """Train the epochs that are left, saving after each."""
        started = time.monotonic()
        first_epoch = len(self.state.results)
        model = self.replica.wrap(self.state.network)
        # Deterministic kernels: the same seed has to give the same weights.
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with deterministic, self._limited_threads():
            for epoch in range(first_epoch, self.config.epochs):
                self.state.results.append(self._epoch(model, epoch, on_progress))
                if self.replica.rank == 0 and epoch + 1 < self.config.epochs:
                    _save(self.state.save_epoch, checkpoints)
        if self.replica.rank == 0:
            _save(self.state.save_finished, checkpoints)
        duration_s = time.monotonic() - started
        results = tuple(self.state.results)
        num_images = (self.config.epochs - first_epoch) * self.iterations * self._images_per_batch()
        return TrainingReport(results, first_epoch, num_images, duration_s, self.input_s / max(duration_s, 1e-9))

    def _images_per_batch(self) -> int:
        """Images per iteration over all replicas; what does not fill a batch is left out, unless it is the only one."""
        whole = min(self.config.batch_size, len(self.data.train_labels_N))
        return whole - whole % self.replica.num_replicas

    def _epoch(self, model: nn.Module, epoch: int, on_progress: OnTrainingProgress | None) -> EpochResult:
        order = torch.Generator().manual_seed(derive_seed(self.seed, None, f"order {epoch}"))
        order_N = torch.randperm(len(self.data.train_labels_N), generator=order).to(self.device)
        totals_2 = torch.zeros(2, device=self.device, dtype=torch.float64)  # summed loss, images classified rightly
        for iteration in range(self.iterations):
            images_NCHW, labels_N = self._batch(order_N, epoch, iteration)
            loss, num_correct = self._step(model, images_NCHW, labels_N, epoch, iteration)
            totals_2 += torch.stack((loss.detach().double() * len(labels_N), num_correct.double()))
            self._report(epoch, iteration, loss, on_progress)
        loss_sum, num_correct_sum = self.replica.total(totals_2).tolist()
        num_images = self.iterations * self._images_per_batch()
        _check_finite(loss_sum, epoch)
        return EpochResult(loss_sum / num_images, num_correct_sum / num_images)

    def _batch(self, order_N: Tensor, epoch: int, iteration: int) -> tuple[Tensor, Tensor]:
        """This replica's part of a batch: normalised float32 images in channels_last, and labels."""
        started = time.monotonic()
        whole = self._images_per_batch()
        index_N = order_N[iteration * whole : (iteration + 1) * whole]
        images_NCHW = self.data.train_images_NCHW[index_N]
        draws = torch.Generator().manual_seed(derive_seed(self.seed, None, f"augmentation {epoch} {iteration}"))
        images_NCHW = augment(images_NCHW, self.config.augmentation, draws)
        part = whole // self.replica.num_replicas
        mine = slice(self.replica.rank * part, (self.replica.rank + 1) * part)
        batch = self.data.normalise(images_NCHW[mine]), self.data.train_labels_N[index_N[mine]]
        self.input_s += time.monotonic() - started
        return batch

    def _step(
        self, model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, epoch: int, iteration: int
    ) -> tuple[Tensor, Tensor]:
        plan = self.plan(epoch, iteration)
        if self.dropout is not None:
            draws = derive_seed(self.seed, None, f"dropout {epoch} {iteration} {self.replica.rank}")
            self.dropout.generator.manual_seed(draws)
        optimizer, scaler = self.state.optimizer, self.state.scaler
        group = optimizer.param_groups[0]
        # Only what gets a gradient: neither momentum nor weight decay moves the others.
        group["params"] = plan.parameters
        step = epoch * self.iterations + iteration
        group["lr"] = self.learning_rate(step, self.config.epochs * self.iterations)
        totals_2 = torch.zeros(2, device=self.device)
        for arguments in plan.passes:
            totals_2 += self._gradients(model, images_NCHW, labels_N, arguments)
        if self.config.max_gradient_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(group["params"], self.config.max_gradient_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.after_step(step)
        loss, num_correct = totals_2 / len(plan.passes)
        return loss, num_correct

    def _gradients(self, model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, arguments: tuple[Any, ...]) -> Tensor:
        """Add the gradients of a batch's mean loss; return that loss and how many images are classified rightly."""
        totals_2 = torch.zeros(2, device=self.device)
        # parts of (nearly) equal size, so that none is a single image, of which BN makes nothing
        for part_NCHW, part_N in zip(
            images_NCHW.tensor_split(self.num_parts), labels_N.tensor_split(self.num_parts), strict=True
        ):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                logits_NK = model(part_NCHW, *arguments)
                loss = F.cross_entropy(logits_NK, part_N, label_smoothing=self.config.label_smoothing)
            if self.num_parts > 1:
                loss = loss * (len(part_N) / len(labels_N))
            self.state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            totals_2 += torch.stack((loss.detach().float(), (logits_NK.detach().argmax(1) == part_N).sum().float()))
        return totals_2

    def _report(self, epoch: int, iteration: int, loss: Tensor, on_progress: OnTrainingProgress | None) -> None:
        """Look at the loss and call back a few times a second; in between nothing waits for the device."""
        now = time.monotonic()
        done = epoch * self.iterations + iteration + 1
        num_steps = self.config.epochs * self.iterations
        if now - self.last_progress < _PROGRESS_INTERVAL_S and done < num_steps:
            return
        self.last_progress = now
        value = float(loss.detach())
        _check_finite(value, epoch)
        if on_progress is not None:
            curve = training_curve(self.state.results)
            on_progress(TrainingProgress(epoch, iteration + 1, done / num_steps, value, curve))

    @contextlib.contextmanager
    def _limited_threads(self) -> Iterator[None]:
        """Compute with one thread while layers are small; which it is depends on the network and the batch only."""
        before = torch.get_num_threads()
        images_at_once = self._images_per_batch() // self.replica.num_replicas // self.num_parts
        per_layer = self.multi_adds_per_layer * images_at_once
        try:
            torch.set_num_threads(before if per_layer >= _MIN_THREADED_MULTI_ADDS else 1)
            yield
        finally:
            torch.set_num_threads(before)


class _SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own, which is set before every iteration."""

    def __init__(self, probability: float, device: torch.device) -> None:
        super().__init__()
        self.probability = probability
        self.generator = torch.Generator(device)

    def forward(self, x_NF: Tensor) -> Tensor:
        """Zero features with the probability, and scale the others up."""
        kept = 1.0 - self.probability
        return x_NF * torch.empty_like(x_NF).bernoulli_(kept, generator=self.generator).div_(kept)


def _seed_dropout(network: nn.Module, device: torch.device) -> _SeededDropout | None:
    """Replace a network's dropout by one that draws from its own generator; None where it has none to speak of."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Dropout):
            seeded = _SeededDropout(module.p, device) if module.p else None
            if seeded is not None:
                network.set_submodule(name, seeded)
            return seeded
    return None


def _save(save: Callable[[CheckpointStore], None], checkpoints: CheckpointStore) -> None:
    try:
        save(checkpoints)
    except CheckpointError as error:
        raise TrainingDivergedError(f"{error}; lower the learning rate") from error


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss became {loss} in epoch {epoch}; lower the learning rate")
