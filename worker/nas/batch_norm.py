"""BN statistics of a sub-network itself: recalibration through a prefix, layer by layer.

The supernet's running averages mix all paths that were trained, which distorts z far more than the supernet's weights
do. A layer's own statistics depend on the choices before it only, so a node of the trie is calibrated once.

Tensors: N images, C channels, H x W pixels, channels_last.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from worker.nas.folded_layers import Affine, FoldedLayer, Gate, RawBlock, RawConv, activate_, chunks, run_layers

PartialMoments = tuple[Tensor, Tensor, int]
"""Means and biased variances [R, C] of R disjoint parts of a tensor, each of the same number of values per channel."""

_IMAGES_PER_BATCH = 500

_VALUES = 256
"""Values per partial statistic, about: a float32 sum of that many keeps all digits that matter. With 1,024 a label of
some thousand differed from the plain way's on deep networks with few calibration images."""


def calibrate(
    block: RawBlock, x_NCHW: Tensor, *, budget_bytes: int, is_last: bool = False
) -> tuple[tuple[Affine, ...], Tensor | None]:
    """Run a block on the whole calibration set, each BN with the mean and biased variance of what reaches it.

    The same as a forward pass in train mode with the calibration set as one batch.

    Args:
        block: The block, not folded.
        x_NCHW: What the calibrated prefix before the block makes of the calibration set.
        budget_bytes: An inner activation of the whole set that takes more is not kept but computed again, chunk by
            chunk; the statistics are exact either way.
        is_last: Whether no BN follows, so that nobody needs the block's output.

    Returns:
        What each BN of the block does, in order, and the block's output [N, C', H', W'], None after the last block.
    """
    if not block.layers:
        return (), x_NCHW
    walk = _Calibration(chunks(x_NCHW, block.layers))
    for layer in block.layers:
        if isinstance(layer, Gate):
            walk.scale(layer)
        else:
            walk.add(layer, budget_bytes if layer is not block.layers[-1] else None)
    if is_last:
        return tuple(walk.affines), None
    out_NCHW = walk.output()
    return tuple(walk.affines), out_NCHW.add_(x_NCHW) if block.residual else out_NCHW


class _Calibration:
    """The calibration set on its way through a block, in parts that are used again while they are in the cache.

    Attributes:
        affines: What each BN so far does.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.affines: list[Affine] = []
        self._parts = list(parts)
        self._due: list[Callable[[Tensor], Tensor]] = []  # changes the parts when they are next used, once
        self._pending: list[FoldedLayer] = []  # layers whose output was too large to keep: they run at every use

    def add(self, layer: RawConv, budget_bytes: int | None) -> None:
        """Take one more convolution and find its BN's statistics; keep its output if it fits (None: in any case)."""
        moments, kept = [], True
        for index in range(len(self._parts)):
            out_NCHW = layer.convolve(self._use(index))
            moments.append(partial_moments(out_NCHW))
            if not index:
                kept = budget_bytes is None or out_NCHW.nbytes * len(self._parts) <= budget_bytes
            if kept:
                self._parts[index] = out_NCHW
        affine = layer.affine(*combine(moments))
        self.affines.append(affine)
        if kept:
            self._due, self._pending = [partial(_normalise, affine=affine, layer=layer)], []
        else:
            self._due = []
            self._pending.append(layer.fold(affine))

    def scale(self, gate: Gate) -> None:
        """Take a squeeze-and-excitation, which has no BN."""
        (self._pending if self._pending else self._due).append(gate)

    def output(self) -> Tensor:
        """Return what the layers so far make of the calibration set."""
        parts = [self._use(index) for index in range(len(self._parts))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _use(self, index: int) -> Tensor:
        for step in self._due:
            self._parts[index] = step(self._parts[index])
        return run_layers(self._parts[index], self._pending)


def combine(moments: Sequence[PartialMoments]) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of every channel over all images and pixels, float32 [C].

    The partial statistics are of a few hundred values each, and are combined exactly (Chan et al.): a float32 sum of
    millions of values would lose digits.
    """
    mean_RC, variance_RC, _ = moments[0]
    if len(moments) == len(mean_RC) == 1:
        return mean_RC[0], variance_RC[0]
    weight_R = _weights(tuple((len(part), size) for part, _, size in moments), mean_RC.device)
    if len(moments) > 1:
        mean_RC, variance_RC = torch.cat([p[0] for p in moments]), torch.cat([p[1] for p in moments])
    # A product with a vector: a reduction of a small tensor costs several times more.
    mean_C = weight_R @ mean_RC
    return mean_C, weight_R @ (mean_RC - mean_C).square_().add_(variance_RC)


@lru_cache(maxsize=256)
def _weights(parts: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Return [R], the share of every partial statistic in all values, given how many there are of which size."""
    sizes = np.array([size for number, size in parts for _ in range(number)], dtype=np.float64)
    return torch.as_tensor(sizes / sizes.sum(), dtype=torch.float32, device=device)


def partial_moments(x_NCHW: Tensor) -> PartialMoments:
    """Return means and biased variances [R, C] of R disjoint parts of equal size, and that size."""
    if x_NCHW.device.type != "cpu":
        variance_C, mean_C = torch.var_mean(x_NCHW.float(), (0, 2, 3), correction=0)
        return mean_C[None], variance_C[None], x_NCHW.numel() // len(mean_C)
    n, channels, height, width = x_NCHW.shape
    # var_mean is many times slower than BN's own kernel on channels_last. Of many values, some of the pixels pass for
    # channels, which keeps the float32 sums of that kernel short.
    pixels = _divisor(height * width, max(1.0, n * height * width / _VALUES))
    size = n * height * width // pixels
    rows = x_NCHW.permute(0, 2, 3, 1).reshape(size, pixels * channels)
    mean, variance = torch.ops.aten.batch_norm_update_stats(rows.t()[None, :, :, None], None, None, 0.0)
    return mean.view(pixels, channels), variance.view(pixels, channels), size


@cache
def _divisor(number: int, wanted: float) -> int:
    """Return the divisor of a number that is nearest to the wanted one, as a ratio."""
    divisors = (divisor for divisor in range(1, number + 1) if number % divisor == 0)
    return min(divisors, key=lambda divisor: abs(math.log(divisor / wanted)))


def _normalise(x_NCHW: Tensor, affine: Affine, layer: RawConv) -> Tensor:
    """Apply BN with known statistics and the activation; in place where the type allows."""
    scale_C11, shift_C11 = affine.scale_C.view(-1, 1, 1), affine.shift_C.view(-1, 1, 1)
    if x_NCHW.dtype == torch.float32:
        return activate_(torch.addcmul(shift_C11, x_NCHW, scale_C11, out=x_NCHW), layer.spec.activation)
    wide = activate_(torch.addcmul(shift_C11, x_NCHW.float(), scale_C11), layer.spec.activation)
    return wide.to(x_NCHW.dtype)


def statistics_batches(images_NCHW: Tensor) -> list[Tensor]:
    """Return images in batches of equal size, about 500 each, whose own BN statistics are used (``batch``)."""
    num_batches = max(1, round(len(images_NCHW) / _IMAGES_PER_BATCH))
    return list(torch.tensor_split(images_NCHW, num_batches))
