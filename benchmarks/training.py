"""Supernet training: our loop against a plain eager loop on the same network, paths, batches and machine.

The plain loop is what one writes first: NCHW tensors, a ``DataLoader`` with per-image augmentation in Python,
``nn.Conv2d``, torch's SGD over all parameters. Its DataLoader gets whichever of no and one worker process is faster.

Run ``python -m benchmarks.training``; ``FULL=1`` takes the whole data set and more repetitions. The last line is one
JSON object with ``speedup``, ``input_share`` and the greatest difference of the loss curves without augmentation.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from app.domain.search_space import Head, SearchSpace, preset
from app.domain.seeds import derive_seed
from worker.nas.checkpoint import CheckpointStore
from worker.nas.data import SearchData, load_search_data
from worker.nas.single_path import initial_supernet, learning_rate_at, sampled_path
from worker.nas.supernet_training import SupernetTrainingConfig, TrainingReport, train_supernet

RESOLUTION = 32
WIDTH = 0.25
LOSS_TOLERANCE = 1e-4
CPU = torch.device("cpu")


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Training images one by one: padded, cropped at random, scaled, normalised."""

    def __init__(self, data: SearchData, *, crop: bool) -> None:
        self.images = data.train_images_NCHW.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.train_labels_N.tolist()
        self.mean, self.std = data.mean_C.view(3, 1, 1), data.std_C.view(3, 1, 1)
        self.crop = crop
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: npt.NDArray[np.uint8] = self.images[index]
        if self.crop:
            padding, size = RESOLUTION // 8, RESOLUTION
            padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
            top, left = self.rng.integers(0, 2 * padding + 1, 2)
            image = padded[top : top + size, left : left + size]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        return (pixels - self.mean) / self.std, self.labels[index]


@dataclass(frozen=True)
class Task:
    """What both loops train."""

    space: SearchSpace
    data: SearchData
    config: SupernetTrainingConfig

    @property
    def iterations(self) -> int:
        """Iterations of an epoch."""
        return len(self.data.train_labels_N) // self.config.batch_size


def epoch_order(task: Task, seed: int, epoch: int) -> list[int]:
    """The images of an epoch in our loop's order, without those that fill no batch."""
    order = torch.Generator().manual_seed(derive_seed(seed, None, f"order {epoch}"))
    indices: list[int] = torch.randperm(len(task.data.train_labels_N), generator=order).tolist()
    return indices[: task.iterations * task.config.batch_size]


class PlainTraining:
    """The plain loop; its DataLoader and its network stay from one epoch to the next."""

    def __init__(self, task: Task, seed: int, num_workers: int) -> None:
        self.task, self.seed = task, seed
        self.order: list[int] = []
        config = task.config
        self.network = initial_supernet(task.space, config, seed)
        self.optimizer = torch.optim.SGD(
            self.network.train().parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.loader = DataLoader(
            PlainImages(task.data, crop=config.augmentation != "none"),
            batch_size=config.batch_size,
            sampler=self,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, epoch: int) -> tuple[list[float], float]:
        """Train one epoch; return its losses and its images per second."""
        task = self.task
        self.order = epoch_order(task, self.seed, epoch)
        started, losses = time.monotonic(), []
        for iteration, (images, labels) in enumerate(self.loader):
            step = epoch * task.iterations + iteration
            rate = learning_rate_at(task.config, step, task.config.epochs * task.iterations)
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(self.network(images, sampled_path(task.space, self.seed, epoch, iteration)), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
        return losses, len(self.order) / (time.monotonic() - started)


def ours(task: Task, seed: int) -> TrainingReport:
    """Train by our loop into a directory that is thrown away."""
    with tempfile.TemporaryDirectory() as directory:
        checkpoints = CheckpointStore(directory, "benchmark")
        return train_supernet(task.space, task.data, task.config, seed=seed, device=CPU, checkpoints=checkpoints)


def loss_difference(task: Task, num_epochs: int) -> float:
    """Greatest difference of the epochs' mean losses without augmentation.

    With swish in place of ReLU6, and small steps: at a kink, a difference in the last bit sends a gradient one way or
    the other, and large steps multiply it by ten every few iterations. At a learning rate of 0.01 any two sets of
    float32 kernels part within an epoch, torch's own for NCHW and channels_last included (by 0.03 on one CPU, by
    nothing on another).
    """
    config = replace(task.config, augmentation="none", epochs=num_epochs, learning_rate=0.001)
    small = replace(task, config=config, space=task.space.model_copy(update={"activation": "swish"}))
    plain = PlainTraining(small, seed=1, num_workers=0)
    expected = [statistics.fmean(plain.epoch(epoch)[0]) for epoch in range(num_epochs)]
    found = [result.loss for result in ours(small, seed=1).results]
    for epoch, (theirs, mine) in enumerate(zip(expected, found, strict=True)):
        print(f"  epoch {epoch}: plain loss {theirs:.6f}, ours {mine:.6f}")
    return max(abs(theirs - mine) for theirs, mine in zip(expected, found, strict=True))


def fastest_plain(task: Task) -> PlainTraining:
    """The plain loop with no or one DataLoader process, whichever is faster, warmed up."""
    rates = []
    for num_workers in (0, 1):
        training = PlainTraining(task, seed=0, num_workers=num_workers)
        training.epoch(0)
        rates.append((training.epoch(0)[1], num_workers, training))
    rate, num_workers, fastest = max(rates)
    print(f"  the plain loop is fastest with {num_workers} DataLoader process(es): {rate:.0f} images/s")
    return fastest


def main() -> None:
    """Compare the two loops and print the figures."""
    full = os.environ.get("FULL") == "1"
    num_images, repetitions = (1797, 9) if full else (1200, 5)
    data = load_search_data(
        "digits",
        None,
        resolution=RESOLUTION,
        num_classes=None,
        num_images=num_images,
        validation_fraction=0.1,
        num_calibration_images=64,
        seed=0,
    )
    space = preset("fairnas").proxy(resolution=RESOLUTION, width=WIDTH, num_classes=10)
    # Without dropout, whose draws two loops cannot share.
    space = space.model_copy(update={"head": Head(out_channels=space.head.out_channels)})
    task = Task(space, data, SupernetTrainingConfig(epochs=1, batch_size=64, learning_rate=0.05, augmentation="crop"))
    print(f"19 cells at {RESOLUTION} px, width {WIDTH}, batches of 64, {torch.get_num_threads()} threads")
    difference = loss_difference(task, num_epochs=2 if not full else 4)
    ours(task, seed=0)
    plain = fastest_plain(task)
    ratios, rates, plain_rates, shares = [], [], [], []
    for repetition in range(repetitions):
        plain_rate = plain.epoch(0)[1]
        report = ours(task, seed=0)
        ratios.append(report.images_per_s / plain_rate)
        rates.append(report.images_per_s)
        plain_rates.append(plain_rate)
        shares.append(report.input_share)
        print(f"  repetition {repetition}: plain {plain_rate:.0f} images/s, ours {report.images_per_s:.0f}")
    figures = {
        "speedup": round(statistics.median(ratios), 2),
        "input_share": round(statistics.median(shares), 4),
        "images_per_s": round(statistics.median(rates), 1),
        "plain_images_per_s": round(statistics.median(plain_rates), 1),
        "loss_difference": difference,
    }
    print(json.dumps(figures))
    if difference > LOSS_TOLERANCE:
        sys.exit(f"the two loss curves differ by {difference:.2g}, more than {LOSS_TOLERANCE:g}")


if __name__ == "__main__":
    main()
