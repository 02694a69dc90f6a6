"""The layers of a sub-network as inference runs them: BN folded into the convolutions, activation fused, channels_last.

Tensors: N images, C channels, H x W pixels, always in the channels_last memory format.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.domain.search_space import Activation
from worker.nas.blocks import ConvBN, InvertedResidual, SqueezeExcitation

CHUNK_BYTES = 3 * 2**20
"""Size of the widest activation of a chunk on a CPU: what a layer writes, the next one reads from the cache. From
32 MiB on the C library maps fresh pages for every tensor, which costs more than the convolution."""

_ONEDNN_ACTIVATIONS: dict[Activation | None, tuple[str, list[float]]] = {
    None: ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "swish": ("swish", []),
}


@dataclass(frozen=True, eq=False)
class ConvSpec:
    """What a convolution is, without its weights."""

    kernel_size: int
    stride: int
    groups: int
    activation: Activation | None


@dataclass(frozen=True, eq=False)
class RawConv:
    """A convolution of the supernet with its BN, both on the device where evaluation runs.

    Attributes:
        spec: Kernel, stride, groups, activation.
        weight: [out, in / groups, k, k], channels_last.
        gamma_C: BN's scale.
        beta_C: BN's shift.
        mean_C: BN's running mean.
        variance_C: BN's running variance.
        eps: BN's epsilon.
    """

    spec: ConvSpec
    weight: Tensor
    gamma_C: Tensor
    beta_C: Tensor
    mean_C: Tensor
    variance_C: Tensor
    eps: float

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    def affine(self, mean_C: Tensor, variance_C: Tensor) -> "Affine":
        """Return what BN does to each channel, given its statistics: y = scale * x + shift."""
        scale_C = torch.rsqrt(variance_C + self.eps).mul_(self.gamma_C)
        return Affine(scale_C, torch.addcmul(self.beta_C, mean_C, scale_C, value=-1))

    def running_affine(self) -> "Affine":
        """Return what BN does with the supernet's running statistics."""
        return self.affine(self.mean_C, self.variance_C)

    def fold(self, affine: "Affine") -> "FoldedConv":
        """Return the convolution with BN folded into its weights and bias."""
        weight = (self.weight.float() * affine.scale_C.view(-1, 1, 1, 1)).to(self.weight.dtype)
        return FoldedConv(self.spec, weight, affine.shift_C.to(self.weight.dtype))

    def convolve(self, x_NCHW: Tensor) -> Tensor:
        """Return the convolution's output before BN."""
        return _convolve(x_NCHW, self.weight, None, self.spec, None)


@dataclass(frozen=True, eq=False)
class Affine:
    """BN with known statistics: one scale and one shift per channel, float32.

    Attributes:
        scale_C: Factor.
        shift_C: Summand.
    """

    scale_C: Tensor
    shift_C: Tensor


@dataclass(frozen=True, eq=False)
class FoldedConv:
    """A convolution with bias and activation, made from one with BN.

    Attributes:
        spec: Kernel, stride, groups, activation.
        weight: [out, in / groups, k, k], channels_last.
        bias_C: [out].
    """

    spec: ConvSpec
    weight: Tensor
    bias_C: Tensor

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H / stride, W / stride], freshly allocated."""
        return _convolve(x_NCHW, self.weight, self.bias_C, self.spec, self.spec.activation)


@dataclass(frozen=True, eq=False)
class Gate:
    """Squeeze-and-excitation: scales every channel by a sigmoid of the pooled channels; it has no BN."""

    squeeze_weight: Tensor
    squeeze_bias: Tensor
    excite_weight: Tensor
    excite_bias: Tensor
    activation: Activation | None

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        """Scale the channels in place."""
        squeezed = activate_(functional.linear(pool(x_NCHW), self.squeeze_weight, self.squeeze_bias), self.activation)
        gate_NC = torch.sigmoid_(functional.linear(squeezed, self.excite_weight, self.excite_bias))
        return x_NCHW.mul_(gate_NC.to(x_NCHW.dtype)[:, :, None, None])


RawLayer = RawConv | Gate
FoldedLayer = FoldedConv | Gate


@dataclass(frozen=True, eq=False)
class RawBlock:
    """The stem, one choice of one cell, or the head's convolution: layers in order, with or without a residual.

    Attributes:
        layers: In the order of the data; none for the plain identity.
        residual: Whether the input is added to the output.
    """

    layers: tuple[RawLayer, ...]
    residual: bool

    def fold(self, affines: Sequence[Affine]) -> "FoldedBlock":
        """Return the block with BN folded, given what each BN does in order."""
        remaining = iter(affines)
        return FoldedBlock(
            tuple(layer.fold(next(remaining)) if isinstance(layer, RawConv) else layer for layer in self.layers),
            self.residual,
        )

    def running_affines(self) -> tuple[Affine, ...]:
        """Return what each BN does with the supernet's running statistics."""
        return tuple(layer.running_affine() for layer in self.layers if isinstance(layer, RawConv))


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """A block that is ready to run.

    Attributes:
        layers: In the order of the data; none for the plain identity.
        residual: Whether the input is added to the output.
    """

    layers: tuple[FoldedLayer, ...]
    residual: bool

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, C, H, W] to the block's output, in chunks whose activations stay in the cache."""
        parts = chunks(x_NCHW, self.layers)
        return self._run(x_NCHW) if len(parts) == 1 else torch.cat([self._run(part) for part in parts])

    def _run(self, x_NCHW: Tensor) -> Tensor:
        out = run_layers(x_NCHW, self.layers)
        return out.add_(x_NCHW) if self.residual else out


def run_layers(x_NCHW: Tensor, layers: Sequence[FoldedLayer]) -> Tensor:
    """Run folded layers one after the other."""
    for layer in layers:
        x_NCHW = layer(x_NCHW)
    return x_NCHW


def chunks(x_NCHW: Tensor, layers: Sequence[RawLayer | FoldedLayer]) -> tuple[Tensor, ...]:
    """Cut images evenly, so that a block's widest activation takes at most ``CHUNK_BYTES``; not at all on a GPU."""
    if x_NCHW.device.type != "cpu":
        return (x_NCHW,)
    height, width, widest = x_NCHW.shape[2], x_NCHW.shape[3], 1
    for layer in layers:
        if not isinstance(layer, Gate):
            height, width = -(-height // layer.spec.stride), -(-width // layer.spec.stride)
            widest = max(widest, layer.out_channels * height * width)
    largest = max(1, CHUNK_BYTES // (widest * x_NCHW.element_size()))
    # a small rest would run at the price of a chunk and use the matrix units worse
    return torch.tensor_split(x_NCHW, -(-len(x_NCHW) // largest))


def raw_block(block: nn.Module, device: torch.device, dtype: torch.dtype) -> RawBlock:
    """Return the layers of a stem, choice or head convolution of the supernet, with weights on the device.

    Args:
        block: The stem, a choice of a cell, or the head's :class:`ConvBN`.
        device: Where evaluation runs.
        dtype: Type of weights and activations; statistics stay float32.
    """
    match block:
        case nn.Identity():
            return RawBlock((), residual=False)
        case ConvBN():
            return RawBlock((_raw_conv(block, device, dtype),), residual=False)
        case nn.Sequential():
            parts = [raw_block(part, device, dtype) for part in block]
            return RawBlock(tuple(layer for part in parts for layer in part.layers), residual=False)
        case InvertedResidual():
            layers: list[RawLayer] = [_raw_conv(block.expand, device, dtype), _raw_conv(block.depthwise, device, dtype)]
            if isinstance(block.attention, SqueezeExcitation):
                layers.append(_gate(block.attention, device, dtype))
            layers.append(_raw_conv(block.project, device, dtype))
            return RawBlock(tuple(layers), residual=block.residual)
    raise AssertionError(f"no fast path for a {type(block).__name__}")


def pool(x_NCHW: Tensor) -> Tensor:
    """Global average pool: [N, C, H, W] to [N, C]."""
    # Reducing the middle axis of a contiguous [N, HW, C] view is much faster than mean((2, 3)) on channels_last.
    return x_NCHW.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def activate_(x: Tensor, activation: Activation | None) -> Tensor:
    """Apply an activation in place."""
    match activation:
        case "relu":
            return torch.relu_(x)
        case "relu6":
            return x.clamp_(0, 6)
        case "swish":
            return functional.silu(x, inplace=True)
        case None:
            return x


def _raw_conv(layer: ConvBN, device: torch.device, dtype: torch.dtype) -> RawConv:
    conv, bn = layer.conv, layer.bn
    assert bn.running_mean is not None
    assert bn.running_var is not None
    gamma_C, beta_C, mean_C, variance_C = (
        tensor.detach().to(device, torch.float32) for tensor in (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    )
    return RawConv(
        spec=ConvSpec(conv.kernel_size[0], conv.stride[0], conv.groups, _activation_name(layer.activation)),
        weight=conv.weight.detach().to(device, dtype).contiguous(memory_format=torch.channels_last),
        gamma_C=gamma_C,
        beta_C=beta_C,
        mean_C=mean_C,
        variance_C=variance_C,
        eps=bn.eps,
    )


def _gate(layer: SqueezeExcitation, device: torch.device, dtype: torch.dtype) -> Gate:
    assert layer.squeeze.bias is not None
    assert layer.excite.bias is not None
    return Gate(
        squeeze_weight=layer.squeeze.weight.detach().to(device, dtype).flatten(1),
        squeeze_bias=layer.squeeze.bias.detach().to(device, dtype),
        excite_weight=layer.excite.weight.detach().to(device, dtype).flatten(1),
        excite_bias=layer.excite.bias.detach().to(device, dtype),
        activation=_activation_name(layer.activation),
    )


def _activation_name(module: nn.Module) -> Activation | None:
    match module:
        case nn.ReLU6():
            return "relu6"
        case nn.ReLU():
            return "relu"
        case nn.SiLU():
            return "swish"
        case nn.Identity():
            return None
    raise AssertionError(f"no fast path for the activation {type(module).__name__}")


def _convolve(x_NCHW: Tensor, weight: Tensor, bias_C: Tensor | None, spec: ConvSpec, act: Activation | None) -> Tensor:
    if x_NCHW.device.type == "cpu" and torch._C._has_mkldnn:
        num_pixels = x_NCHW.shape[2] * x_NCHW.shape[3]
        if spec.kernel_size == spec.stride == spec.groups == 1:
            return _convolve_linear(x_NCHW, weight, bias_C, act)
        if num_pixels == 1 and spec.groups == weight.shape[0]:
            return _convolve_single_pixel(x_NCHW, weight, bias_C, act)
        return _convolve_onednn(x_NCHW, weight, bias_C, spec, act)
    out = functional.conv2d(x_NCHW, weight, bias_C, spec.stride, spec.kernel_size // 2, 1, spec.groups)
    return activate_(out, act)


def _convolve_linear(x_NCHW: Tensor, weight: Tensor, bias_C: Tensor | None, act: Activation | None) -> Tensor:
    """A 1x1 convolution as one matrix product over all pixels, with bias and activation applied on the way (oneDNN)."""
    n, channels, height, width = x_NCHW.shape
    rows = x_NCHW.permute(0, 2, 3, 1).reshape(-1, channels)
    name, values = _ONEDNN_ACTIVATIONS[act]
    out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight.view(-1, channels), bias_C, name, values, "")
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


def _convolve_single_pixel(x_NCHW: Tensor, weight: Tensor, bias_C: Tensor | None, act: Activation | None) -> Tensor:
    """A depthwise convolution on maps of one pixel, where all but the kernel's centre meets padding."""
    centre = weight.shape[-1] // 2
    scale_C11 = weight[:, :, centre, centre].contiguous()[:, :, None]
    out = x_NCHW * scale_C11 if bias_C is None else torch.addcmul(bias_C[:, None, None], x_NCHW, scale_C11)
    return activate_(out, act)


def _convolve_onednn(
    x_NCHW: Tensor, weight: Tensor, bias_C: Tensor | None, spec: ConvSpec, act: Activation | None
) -> Tensor:
    """Convolve with the activation applied while the output is still in registers (oneDNN's post-op)."""
    padding, (name, values) = spec.kernel_size // 2, _ONEDNN_ACTIVATIONS[act]
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x_NCHW, weight, bias_C, [padding] * 2, [spec.stride] * 2, [1, 1], spec.groups, name, values, ""
    )
    return out
