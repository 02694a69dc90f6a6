"""The loop of single-path training: one mini-batch, one sampled sub-network per iteration (section 3.3, step 0).

All randomness is derived from (seed, epoch, iteration), so that a training continued from a checkpoint equals one that
was never interrupted, and every replica draws the same.

Tensors: N images of a batch, K classes, C channels, H x W pixels.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from app.domain.multi_adds import feasible_range
from app.domain.search_space import Architecture, SearchSpace
from app.domain.seeds import derive_seed, generator
from worker.nas.augmentation import augment
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.cpu_convolution import use_cpu_convolutions
from worker.nas.data import SearchData
from worker.nas.device import autocast_dtype
from worker.nas.supernet import Supernet
from worker.nas.supernet_initialisation import initialise_supernet
from worker.nas.training_config import (
    OnTrainingProgress,
    SupernetTrainingConfig,
    TrainingDivergedError,
    TrainingProgress,
    TrainingReport,
    training_curve,
)
from worker.nas.training_state import EpochResult, TrainingState

_PROGRESS_INTERVAL_S = 0.3
_MIN_THREADED_MULTI_ADDS = 5_000_000
"""Of one layer and batch; below, threads wait for each other longer than they compute."""


class SingleReplica:
    """The whole batch on one device. A replica of several overrides these (see ``distributed_training``)."""

    rank = 0
    num_replicas = 1

    def wrap(self, network: Supernet) -> nn.Module:
        """Return what is called in place of the network, so that gradients are averaged over the replicas."""
        return network

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the replicas."""
        return values


def sampled_path(space: SearchSpace, seed: int, epoch: int, iteration: int) -> Architecture:
    """Return the sub-network that an iteration trains: each cell's choice uniform and independent (section 3.3)."""
    rng = generator(seed, None, f"path {epoch} {iteration}")
    return tuple(int(choice) for choice in rng.integers(0, np.array(space.num_choices)))


def learning_rate_at(config: SupernetTrainingConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of a step of all: a cosine from the initial rate to 0, after a linear rise if any."""
    num_rising = config.warmup_fraction * num_steps
    rise = min(1.0, (step + 1) / num_rising) if num_rising else 1.0
    return rise * config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


def initial_supernet(space: SearchSpace, config: SupernetTrainingConfig, seed: int) -> Supernet:
    """Return the supernet that a training starts from."""
    network = Supernet(space)
    weights = torch.Generator().manual_seed(derive_seed(seed, None, "supernet weights"))
    initialise_supernet(network, config.initialisation, weights)
    return network


class TrainingLoop:
    """One supernet, its optimiser and its images on one device."""

    def __init__(
        self,
        space: SearchSpace,
        data: SearchData,
        config: SupernetTrainingConfig,
        *,
        seed: int,
        digest: str,
        replica: SingleReplica,
    ) -> None:
        self.space, self.data, self.config, self.seed, self.replica = space, data, config, seed, replica
        self.device = data.device
        self.network = initial_supernet(space, config, seed).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's own stub lacks it
        self.network.to(self.device)
        if self.device.type == "cpu":
            use_cpu_convolutions(self.network)
        # nn.Dropout draws from torch's global generator, whose state no checkpoint holds.
        self.dropout = _SeededDropout(space.head.dropout, self.device) if space.head.dropout else None
        if self.dropout is not None:
            setattr(self.network.head, "dropout", self.dropout)  # noqa: B010 - mypy knows it as nn.Dropout
        self.active = _PathParameters(self.network)
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        for parameter in self.network.parameters():
            # From zero, momentum's first step is the gradient, as torch has it; and a checkpoint can list them all.
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.dtype = autocast_dtype(self.device)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.state = TrainingState(self.network, optimizer, scaler, digest)
        self.iterations = max(1, len(data.train_labels_N) // config.batch_size)
        self.input_s = 0.0
        self.last_progress = -math.inf

    def run(self, checkpoints: CheckpointStore, on_progress: OnTrainingProgress | None) -> TrainingReport:
        """Train the epochs that are left, saving after each."""
        started = time.monotonic()
        first_epoch = len(self.state.results)
        model = self.replica.wrap(self.network)
        # Deterministic kernels: the same seed has to give the same weights.
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with deterministic, _limited_threads(self.space, self._images_per_batch() // self.replica.num_replicas):
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
        path = sampled_path(self.space, self.seed, epoch, iteration)
        if self.dropout is not None:
            draws = derive_seed(self.seed, None, f"dropout {epoch} {iteration} {self.replica.rank}")
            self.dropout.generator.manual_seed(draws)
        optimizer, scaler = self.state.optimizer, self.state.scaler
        group = optimizer.param_groups[0]
        # Only the path's parameters: the others get no gradient, so neither momentum nor weight decay moves them.
        group["params"] = self.active.of(path)
        group["lr"] = learning_rate_at(
            self.config, epoch * self.iterations + iteration, self.config.epochs * self.iterations
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            logits_NK = model(images_NCHW, path)
            loss = F.cross_entropy(logits_NK, labels_N, label_smoothing=self.config.label_smoothing)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config.max_gradient_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(group["params"], self.config.max_gradient_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss, (logits_NK.detach().argmax(1) == labels_N).sum()

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
def _limited_threads(space: SearchSpace, batch_size: int) -> Iterator[None]:
    """Compute with one thread while layers are small; which it is depends on the space and the batch only."""
    before = torch.get_num_threads()
    smallest, largest = feasible_range(space)
    per_layer = batch_size * (smallest.multi_adds + largest.multi_adds) // 2 // (3 * space.num_cells)
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


class _PathParameters:
    """The parameters of any path, listed without walking the modules in every iteration."""

    def __init__(self, network: Supernet) -> None:
        self.fixed = [*network.stem.parameters(), *network.head.parameters()]
        self.blocks = [
            [list(network.block(cell_index, choice).parameters()) for choice in range(num_choices)]
            for cell_index, num_choices in enumerate(network.space.num_choices)
        ]

    def of(self, path: Architecture) -> list[nn.Parameter]:
        """Return the parameters that an iteration with this path gives a gradient."""
        chosen = (blocks[choice] for blocks, choice in zip(self.blocks, path, strict=True))
        return [*self.fixed, *(parameter for block in chosen for parameter in block)]


def _save(save: Callable[[CheckpointStore], None], checkpoints: CheckpointStore) -> None:
    try:
        save(checkpoints)
    except CheckpointError as error:
        raise TrainingDivergedError(f"{error}; lower the learning rate") from error


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss became {loss} in epoch {epoch}; lower the learning rate")
