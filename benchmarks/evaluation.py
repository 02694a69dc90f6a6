"""Evaluating many sub-networks of one supernet, against evaluating each by itself in eager PyTorch.

    python -m benchmarks.evaluation            quick: few architectures and images, 2 repetitions
    python -m benchmarks.evaluation --full     the paper's three rounds, 2,000 architectures each (or FULL=1)

The network is the 19-cell space at 32x32 with a stem of stride 1, all BN statistics averaged over paths of the supernet
itself. A round samples one segment (cells 0-6, 7-12, 13-18); from the second on six preserved prefixes lead to it. The
plain side (:mod:`worker.nas.plain_evaluation`) runs NCHW modules with BN, 256 images per batch, with as many threads
as ours; what another batch size would gain it is measured too (``speedup_by_plain_batch``). Every repetition takes the
next fifth of each round's sorted architectures, a shard as a worker gets it: our side evaluates all of it, the plain
side some of it, scaled up to all.
The last line of the output is one JSON object.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.domain.multi_adds import count
from app.domain.search_config import BNStatistics
from app.domain.search_space import Architecture, SearchSpace, preset
from app.domain.seeds import derive_seed, generator
from app.domain.subspace import Subspace
from worker.nas.data import SearchData
from worker.nas.evaluation import predict_labels
from worker.nas.plain_evaluation import predict_labels_plain
from worker.nas.sampling import sample_distinct
from worker.nas.supernet import Supernet

SEED = 0
RESOLUTION = 32
NUM_CLASSES = 10
NUM_PRESERVED = 6


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        repeats: Repetitions, of which the median is taken.
        architectures: Architectures per round, over all repetitions.
        plain: Those of them that the plain side evaluates.
        validation: Validation images.
        calibration: Calibration images; 0 for running statistics.
    """

    repeats: int
    architectures: int
    plain: int
    validation: int
    calibration: int = 0


FULL = {
    "running": Sizes(5, architectures=2_000, plain=100, validation=256),
    "recalibrated": Sizes(5, architectures=2_000, plain=100, validation=256, calibration=128),
    "ratio": Sizes(5, architectures=6, plain=0, validation=5_000, calibration=1_000),
}
QUICK = {
    "running": Sizes(2, architectures=40, plain=8, validation=128),
    "recalibrated": Sizes(2, architectures=40, plain=4, validation=128, calibration=64),
    "ratio": Sizes(2, architectures=6, plain=0, validation=500, calibration=100),
}
MIN_AGREEMENT = 0.999
PLAIN_BATCH = 256
"""Images per batch of the plain side, as evaluation scripts commonly have it."""


@dataclass(frozen=True)
class Comparison:
    """Our time over that of the plain side, round by round.

    Attributes:
        speedup: All rounds together; median over the repetitions.
        speedup_rounds: Each round by itself.
        own_s: Seconds that our side takes for all rounds and repetitions.
        agreement: Share of (architecture, image) pairs with the same predicted label.
    """

    speedup: float
    speedup_rounds: list[float]
    own_s: float
    agreement: float


def main() -> None:
    """Measure, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    full = parser.parse_args().full
    sizes = FULL if full else QUICK
    space = preset("fairnas").proxy(resolution=RESOLUTION, num_classes=NUM_CLASSES)
    space = space.model_copy(update={"stem": space.stem.model_copy(update={"stride": 1})})
    supernet = make_supernet(space)
    print(f"{torch.get_num_threads()} threads, {sizes['running'].architectures} architectures a round", flush=True)
    batches = plain_ms_by_batch(supernet)
    print(f"plain side, ms per image by batch size: {batches}", flush=True)
    running = compare(supernet, sizes["running"], "running")
    recalibrated = compare(supernet, sizes["recalibrated"], "recalibrated")
    gmacs = plain_gmacs(supernet.space, sizes["running"])
    peak = gemm_peak()
    figures = {
        "speedup": running.speedup,
        "speedup_rounds": running.speedup_rounds,
        "speedup_by_plain_batch": {
            batch_size: round(running.speedup * ms / batches[PLAIN_BATCH], 2) for batch_size, ms in batches.items()
        },
        "speedup_recalibrated": recalibrated.speedup,
        "speedup_recalibrated_rounds": recalibrated.speedup_rounds,
        "recalibrated_over_running": recalibrated_over_running(supernet, sizes["ratio"]),
        "label_agreement": running.agreement,
        "label_agreement_recalibrated": recalibrated.agreement,
        "fraction_of_gemm_peak": round(gmacs / running.own_s / peak, 3),
        "gemm_peak_gmacs": round(peak, 1),
        "full": full,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))


def make_supernet(space: SearchSpace) -> Supernet:
    """Return a supernet whose BN statistics are averages over its own paths, and whose logits differ between images.

    Untrained weights do for timing, uncalibrated BN would not: activations become denormal or explode.
    """
    supernet = Supernet(space, torch.Generator().manual_seed(derive_seed(SEED, None, "benchmark weights")))
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average over all passes
    rng = generator(SEED, None, "benchmark paths")
    data = make_data(8, 64)
    x_NCHW = data.normalise(data.calibration_images_NCHW)
    supernet.train()
    with torch.no_grad():
        for _ in range(8):
            paths = np.stack([rng.permutation(n) for n in space.num_choices])
            for path in paths.T.tolist():
                supernet(x_NCHW, path)
        supernet.eval()
        supernet.head.classifier.bias.sub_(supernet(x_NCHW, [3] * space.num_cells).mean(0))
    return supernet


def make_data(num_validation: int, num_calibration: int) -> SearchData:
    """Return smooth random images with random labels."""
    rng = torch.Generator().manual_seed(derive_seed(SEED, None, "benchmark images"))

    def images(num: int) -> Tensor:
        coarse = torch.rand(num, 3, 8, 8, generator=rng)
        return functional.interpolate(coarse, size=(RESOLUTION, RESOLUTION), mode="bilinear").mul(255).to(torch.uint8)

    validation = images(num_validation)
    return SearchData(
        train_images_NCHW=images(1),
        train_labels_N=torch.zeros(1, dtype=torch.int64),
        validation_images_NCHW=validation,
        validation_labels_N=torch.randint(0, NUM_CLASSES, (num_validation,), generator=rng),
        calibration_images_NCHW=images(max(1, num_calibration)),
        mean_C=torch.full((3,), 0.5),
        std_C=torch.full((3,), 0.2),
        num_classes=NUM_CLASSES,
    )


def rounds(space: SearchSpace, num_architectures: int) -> list[list[Architecture]]:
    """Return sampled architectures of the three rounds; some of a round's are taken as its preserved ones."""
    base: Architecture = (3,) * space.num_cells
    preserved: Sequence[Architecture] = [base]
    sampled = []
    for round_index, segment in enumerate(space.segments):
        subspace = Subspace.following(space, preserved, segment) if round_index else Subspace(space, base, segment)
        rng = generator(SEED, round_index, "sampling")
        architectures = subspace.architectures(sample_distinct(subspace.size, num_architectures, rng))
        sampled.append([space.check(architecture) for architecture in architectures])
        preserved = sampled[-1][:NUM_PRESERVED]
    return sampled


def compare(supernet: Supernet, sizes: Sizes, bn_statistics: BNStatistics) -> Comparison:
    """Time both sides over the three rounds and compare the labels that they predict."""
    data = make_data(sizes.validation, sizes.calibration)
    space = supernet.space
    sampled = rounds(space, sizes.architectures)

    plain_labels = partial(
        predict_labels_plain, supernet, data=data, bn_statistics=bn_statistics, batch_size=PLAIN_BATCH
    )

    def plain(architectures: Sequence[Architecture]) -> Tensor:
        labels = [plain_labels(a) for a in architectures]
        return torch.stack(labels)

    def own(architectures: Sequence[Architecture]) -> Tensor:
        return predict_labels(supernet, architectures, data, bn_statistics=bn_statistics, device="cpu")

    shards = [np.array_split(sorted(architectures), sizes.repeats) for architectures in sampled]
    own(sampled[0][:4])
    plain(sampled[0][:1])
    own_s, plain_s = np.zeros((sizes.repeats, 3)), np.zeros((sizes.repeats, 3))
    equal, num_plain = [], sizes.plain // sizes.repeats
    for repeat in range(sizes.repeats):
        rng = generator(SEED, repeat, "plain side")
        for round_index, of_round in enumerate(shards):
            part = [space.check(architecture) for architecture in of_round[repeat].tolist()]
            own_s[repeat, round_index], labels = timed(partial(own, part))
            chosen = rng.permutation(len(part))[:num_plain].tolist()
            seconds, expected = timed(partial(plain, [part[i] for i in chosen]))
            plain_s[repeat, round_index] = seconds * len(part) / num_plain
            equal.append((labels[chosen] == expected).double().mean().item())
        print(f"{bn_statistics}: ours {own_s[repeat].round(2)} s, plain {plain_s[repeat].round(2)} s", flush=True)
    return Comparison(
        round(float(np.median(plain_s.sum(1) / own_s.sum(1))), 2),
        [round(float(ratio), 2) for ratio in np.median(plain_s / own_s, axis=0)],
        float(own_s.sum()),
        round(statistics.mean(equal), 6),
    )


def recalibrated_over_running(supernet: Supernet, sizes: Sizes) -> float:
    """Return the time with recalibrated statistics over that with running ones, over the three rounds.

    There are more validation images than one batch takes, so one architecture's labels are compared with the plain way.
    """
    data = make_data(sizes.validation, sizes.calibration)
    sampled = rounds(supernet.space, sizes.architectures)
    ratios = []
    timed_modes: tuple[BNStatistics, ...] = ("recalibrated", "running")
    for mode in get_args(BNStatistics):
        own = predict_labels(supernet, sampled[0][:1], data, bn_statistics=mode, device="cpu")[0]
        plain = predict_labels_plain(supernet, sampled[0][0], data, bn_statistics=mode, batch_size=PLAIN_BATCH)
        if (own == plain).double().mean() < MIN_AGREEMENT:
            raise SystemExit(f"{mode}: labels differ from the plain way's on {sizes.validation} images")
    for _ in range(sizes.repeats):
        seconds: dict[str, float] = {}
        for mode in timed_modes:
            evaluate = partial(predict_labels, supernet, data=data, bn_statistics=mode, device="cpu")
            seconds[mode] = sum(timed(partial(evaluate, architectures))[0] for architectures in sampled)
        ratios.append(seconds["recalibrated"] / seconds["running"])
        print(f"{sizes.calibration} calibration, {sizes.validation} validation images: {seconds}", flush=True)
    return round(statistics.median(ratios), 3)


def plain_ms_by_batch(supernet: Supernet) -> dict[int, float]:
    """Return milliseconds per image of the plain side, by batch size: what another one would gain."""
    data = make_data(512, 0)
    architectures = [sampled[0] for sampled in rounds(supernet.space, 6)]
    by_batch = {}
    for batch_size in (32, 64, 128, 256):
        plain = partial(predict_labels_plain, data=data, bn_statistics="running", batch_size=batch_size)
        seconds = [timed(partial(plain, supernet, a))[0] for a in (architectures[0], *architectures)]
        by_batch[batch_size] = round(statistics.mean(seconds[1:]) / 512 * 1e3, 3)
    return by_batch


def plain_gmacs(space: SearchSpace, sizes: Sizes) -> float:
    """Return 10^9 multi-adds of evaluating each architecture of the three rounds by itself."""
    sampled = rounds(space, sizes.architectures)
    return sum(count(space, a).multi_adds for architectures in sampled for a in architectures) * sizes.validation / 1e9


def gemm_peak() -> float:
    """Return 10^9 multi-adds per second of the machine's matrix product with all threads."""
    a, b = torch.rand(1536, 1536), torch.rand(1536, 1536)
    return 1536**3 / min(timed(lambda: a @ b)[0] for _ in range(20)) / 1e9


def timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the seconds that a call takes, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
