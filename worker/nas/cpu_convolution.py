"""The convolutions of an inverted residual, with gradients that are fast on CPUs at low resolution.

oneDNN computes the weight gradient of a depthwise convolution tens of times slower than its forward pass as soon as the
padding reaches into most outputs (7x7 on 4x4 images and the like, which is what a proxy at 32 pixels is made of). The
same sums are computed here in three other ways; forward pass and input gradient stay oneDNN's. 1x1 convolutions on
small maps become matrix products. Results are the built-in ones up to rounding.

Tensors: N images, C channels, P output and Q input pixels of a map.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_MAX_DENSE_PIXEL_PAIRS = 1024
_MAX_LINEAR_RESOLUTION = 4


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution with stride 1, done as a matrix product over pixels on small maps."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        if x_NCHW.shape[-1] > _MAX_LINEAR_RESOLUTION:
            return super().forward(x_NCHW)
        return F.linear(x_NCHW.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class DepthwiseConv(nn.Conv2d):
    """A depthwise k x k convolution without bias, padding k // 2."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)]."""
        out: Tensor = _Depthwise.apply(x_NCHW, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return out


def use_cpu_convolutions(network: nn.Module) -> None:
    """Replace the 1x1 and depthwise convolutions of a network by those of this module, with the same parameters.

    The names in its ``state_dict`` stay.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and (kind := _replacement(child)) is not None:
                setattr(parent, name, _rebuilt(kind, child))


def _replacement(conv: nn.Conv2d) -> type[nn.Conv2d] | None:
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.groups == 1:
        return PointwiseConv
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.bias is None
    return DepthwiseConv if is_depthwise else None


def _rebuilt(kind: type[nn.Conv2d], conv: nn.Conv2d) -> nn.Conv2d:
    replaced = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        padding=conv.kernel_size[0] // 2,
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    replaced.weight, replaced.bias = conv.weight, conv.bias
    return replaced


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_C1KK: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_C1KK)
        ctx.stride = stride
        padding = weight_C1KK.shape[-1] // 2
        return F.conv2d(x_NCHW, weight_C1KK, None, stride, padding, groups=weight_C1KK.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NCHW, weight_C1KK = ctx.saved_tensors
        grad_NCHW = grad_NCHW.contiguous(memory_format=torch.channels_last)
        kernel_size = weight_C1KK.shape[-1]
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _builtin_gradients(grad_NCHW, x_NCHW, weight_C1KK, ctx.stride, kernel_size // 2, of_input=True)
        if ctx.needs_input_grad[1]:
            grad_weight = depthwise_weight_gradient(x_NCHW, grad_NCHW, kernel_size, ctx.stride)
        return grad_x, grad_weight, None


def depthwise_weight_gradient(x_NCHW: Tensor, grad_NCHW: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Return the gradient [C, 1, k, k] of a depthwise convolution with padding k // 2.

    Args:
        x_NCHW: Its input, square.
        grad_NCHW: Gradient of its output.
        kernel_size: k, odd.
        stride: Its stride.
    """
    num_channels, resolution = x_NCHW.shape[1], x_NCHW.shape[-1]
    # Offsets beyond the map meet padding only: their gradient is zero, and the kernel may as well be smaller.
    reach = min(kernel_size // 2, resolution - 1)
    cropped = 2 * reach + 1
    if cropped > 3 and x_NCHW[0, 0].numel() * grad_NCHW[0, 0].numel() <= _MAX_DENSE_PIXEL_PAIRS:
        grad_CKK = _dense_weight_gradient(x_NCHW, grad_NCHW, cropped, stride)
    else:
        # On maps of 2 pixels oneDNN is fast only if it has nothing to pad.
        padded = F.pad(x_NCHW, [reach] * 4) if resolution <= 2 else x_NCHW
        padding = 0 if resolution <= 2 else reach
        like = grad_NCHW.new_empty((num_channels, 1, cropped, cropped))
        grad_CKK = _builtin_gradients(grad_NCHW, padded, like, stride, padding, of_input=False).squeeze(1)
    margin = kernel_size // 2 - reach
    return F.pad(grad_CKK, [margin] * 4).unsqueeze(1) if margin else grad_CKK.unsqueeze(1)


def _builtin_gradients(
    grad_NCHW: Tensor, x_NCHW: Tensor, weight_C1KK: Tensor, stride: int, padding: int, *, of_input: bool
) -> Tensor:
    mask = [of_input, not of_input, False]
    gradients = torch.ops.aten.convolution_backward(
        grad_NCHW, x_NCHW, weight_C1KK, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], x_NCHW.shape[1], mask
    )
    gradient: Tensor = gradients[0 if of_input else 1]
    return gradient


def _dense_weight_gradient(x_NCHW: Tensor, grad_NCHW: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Correlate every output pixel with every input pixel, then add up the pairs that share an offset."""
    num_images, num_channels, resolution = x_NCHW.shape[:3]
    x_CNQ = x_NCHW.transpose(0, 1).reshape(num_channels, num_images, -1)
    grad_CPN = grad_NCHW.permute(1, 2, 3, 0).reshape(num_channels, -1, num_images)
    pairs_CPQ = torch.bmm(grad_CPN, x_CNQ)
    offsets = _pair_offsets(resolution, kernel_size, stride).to(pairs_CPQ.dtype)
    return (pairs_CPQ.flatten(1) @ offsets).view(num_channels, kernel_size, kernel_size)


@lru_cache(maxsize=64)
def _pair_offsets(resolution: int, kernel_size: int, stride: int) -> Tensor:
    """float32 [P * Q, k * k], 1 where an output and an input pixel meet at an offset of the kernel."""
    centres = torch.arange(0, resolution, stride)
    inputs = torch.arange(resolution)
    taps = torch.arange(kernel_size) - kernel_size // 2
    meets_OIK = inputs[None, :, None] == centres[:, None, None] + taps
    # o, p: output row, column; i, q: input row, column; k, l: tap row, column.
    return torch.einsum("oik,pql->opiqkl", meets_OIK.float(), meets_OIK.float()).reshape(-1, kernel_size**2)
