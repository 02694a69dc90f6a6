"""BN statistics of a sub-network itself: recalibration through a prefix, layer by layer.

The supernet's running averages mix all paths that were trained, which distorts z far more than the supernet's weights
do. A layer's own statistics depend on the choices before it only, so a node of the trie is calibrated once.

Tensors: N images, C channels, H x W pixels, channels_last.
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

from worker.nas.folded_layers import Affine, FoldedLayer, Gate, RawBlock, RawConv, activate_, chunk_rows, run_layers

_MAX_STATISTICS = 4096
"""Partial statistics of one pass over a tensor: few enough for the first-level cache."""


def calibrate(block: RawBlock, x_NCHW: Tensor, *, budget_bytes: int) -> tuple[tuple[Affine, ...], Tensor]:
    """Run a block on the whole calibration set, each BN with the mean and biased variance of what reaches it.

    The same as a forward pass in train mode with the calibration set as one batch.

    Args:
        block: The block, not folded.
        x_NCHW: What the calibrated prefix before the block makes of the calibration set.
        budget_bytes: An inner activation of the whole set that takes more is not kept but computed again, chunk by
            chunk; the statistics are exact either way.

    Returns:
        What each BN of the block does, in order, and the block's output [N, C', H', W'].
    """
    if not block.layers:
        return (), x_NCHW
    parts = list(torch.split(x_NCHW, chunk_rows(x_NCHW, block.layers)))
    affines: list[Affine] = []
    pending: list[FoldedLayer] = []  # layers that are known, but whose output was too large to keep
    num_pixels = x_NCHW.shape[2] * x_NCHW.shape[3]
    for layer in block.layers:
        if isinstance(layer, Gate):
            if pending:
                pending.append(layer)
            else:
                parts = [layer(part) for part in parts]
            continue
        num_pixels = -(-num_pixels // layer.spec.stride**2)
        out_bytes = len(x_NCHW) * layer.out_channels * num_pixels * x_NCHW.element_size()
        if out_bytes <= budget_bytes or layer is block.layers[-1]:
            parts = [layer.convolve(run_layers(part, pending)) for part in parts]
            pending = []
            affines.append(layer.affine(*moments(parts)))
            parts = [_normalise(part, affines[-1], layer) for part in parts]
        else:
            affines.append(layer.affine(*moments(layer.convolve(run_layers(part, pending)) for part in parts)))
            pending.append(layer.fold(affines[-1]))
    out_NCHW = parts[0] if len(parts) == 1 else torch.cat(parts)
    return tuple(affines), out_NCHW.add_(x_NCHW) if block.residual else out_NCHW


def moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of every channel over all images and pixels of all parts, float32 [C].

    Each part gives partial statistics of a few hundred values each, which are combined exactly (Chan et al.): a float32
    sum of millions of values would lose digits.
    """
    partial = [_partial_moments(part) for part in parts]
    mean_RC, variance_RC, _ = partial[0]
    if len(partial) == 1:
        if len(mean_RC) == 1:
            return mean_RC[0], variance_RC[0]
        weight_R = _equal_weights(len(mean_RC), mean_RC.device)
    else:
        sizes = torch.tensor([float(size) for mean_RC, _, size in partial for _ in range(len(mean_RC))])
        weight_R = (sizes / sizes.sum(dtype=torch.float64)).to(mean_RC.device, torch.float32, non_blocking=True)
        mean_RC, variance_RC = torch.cat([p[0] for p in partial]), torch.cat([p[1] for p in partial])
    # A product with a vector: a reduction of a small tensor costs several times more.
    mean_C = weight_R @ mean_RC
    return mean_C, weight_R @ (mean_RC - mean_C).square_().add_(variance_RC)


@cache
def _equal_weights(number: int, device: torch.device) -> Tensor:
    return torch.full((number,), 1.0 / number, device=device)


def _partial_moments(x_NCHW: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return means and biased variances [R, C] of R disjoint parts of equal size, and that size."""
    if x_NCHW.device.type != "cpu":
        variance_C, mean_C = torch.var_mean(x_NCHW.float(), (0, 2, 3), correction=0)
        return mean_C[None], variance_C[None], x_NCHW.numel() // len(mean_C)
    n, channels, height, width = x_NCHW.shape
    # var_mean is many times slower than BN's own kernel on channels_last. As if some pixels were channels, which keeps
    # the float32 sums of that kernel short.
    pixels = _divisor(height * width, max(1, _MAX_STATISTICS // channels))
    size = n * height * width // pixels
    rows = x_NCHW.permute(0, 2, 3, 1).reshape(size, pixels * channels)
    mean, variance = torch.ops.aten.batch_norm_update_stats(rows.t()[None, :, :, None], None, None, 0.0)
    return mean.view(pixels, channels), variance.view(pixels, channels), size


@cache
def _divisor(number: int, largest: int) -> int:
    """Return the largest divisor of a number that is not above ``largest``."""
    return next(divisor for divisor in range(min(number, largest), 0, -1) if number % divisor == 0)


def _normalise(x_NCHW: Tensor, affine: Affine, layer: RawConv) -> Tensor:
    """Apply BN with known statistics and the activation; in place where the type allows."""
    scale_C11, shift_C11 = affine.scale_C.view(-1, 1, 1), affine.shift_C.view(-1, 1, 1)
    if x_NCHW.dtype == torch.float32:
        return activate_(torch.addcmul(shift_C11, x_NCHW, scale_C11, out=x_NCHW), layer.spec.activation)
    wide = activate_(torch.addcmul(shift_C11, x_NCHW.float(), scale_C11), layer.spec.activation)
    return wide.to(x_NCHW.dtype)
