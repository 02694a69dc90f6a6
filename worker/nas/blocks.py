"""The building blocks of a chain-styled network: a cell's choices, the stem and the head.

Tensors: N images, C channels, H x W pixels.
"""

import torch
from torch import Tensor, nn

from app.domain.multi_adds import squeeze_channels
from app.domain.search_space import Activation, Choice, SearchSpace


def activation(name: Activation | None) -> nn.Module:
    """Return the activation layer of that name; the identity for None."""
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "swish":
            return nn.SiLU(inplace=True)
        case None:
            return nn.Identity()


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, activation (or none)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation_name: Activation | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.activation = activation(activation_name)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        out: Tensor = self.activation(self.bn(self.conv(x_NCHW)))
        return out


class SqueezeExcitation(nn.Module):
    """Channel attention: pooled, squeezed, excited, gated by a sigmoid; with biases."""

    def __init__(self, channels: int, squeezed: int, activation_name: Activation) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation(activation_name)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Scale every channel; the shape stays."""
        pooled_NC11 = x_NCHW.mean((2, 3), keepdim=True)
        return x_NCHW * torch.sigmoid(self.excite(self.activation(self.squeeze(pooled_NC11))))


class InvertedResidual(nn.Module):
    """MobileNet-v2's block: 1x1 expansion, depthwise k x k, linear 1x1; residual where the cell keeps its shape."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        choice: Choice,
        *,
        stride: int,
        residual: bool,
        activation_name: Activation,
    ) -> None:
        super().__init__()
        expanded = in_channels * choice.expansion
        self.residual = residual
        self.expand = ConvBN(in_channels, expanded, 1, activation_name=activation_name)
        self.depthwise = ConvBN(
            expanded, expanded, choice.kernel_size, stride=stride, groups=expanded, activation_name=activation_name
        )
        squeezed = squeeze_channels(choice, in_channels)
        self.attention = SqueezeExcitation(expanded, squeezed, activation_name) if squeezed else nn.Identity()
        self.project = ConvBN(expanded, out_channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        out: Tensor = self.project(self.attention(self.depthwise(self.expand(x_NCHW))))
        return x_NCHW + out if self.residual else out


def build_choice(space: SearchSpace, cell_index: int, choice: Choice) -> nn.Module:
    """Return one choice of a cell: an inverted residual, a linear 1x1 convolution with BN, or the plain identity."""
    cell, in_channels, keeps_shape = (
        space.cells[cell_index],
        space.in_channels(cell_index),
        space.keeps_shape(cell_index),
    )
    if choice.kind == "identity":
        return nn.Identity() if keeps_shape else ConvBN(in_channels, cell.out_channels, 1, stride=cell.stride)
    return InvertedResidual(
        in_channels,
        cell.out_channels,
        choice,
        stride=cell.stride,
        residual=keeps_shape,
        activation_name=space.cell_activation or space.activation,
    )


def build_stem(space: SearchSpace) -> nn.Sequential:
    """Return the layers before the first cell, each a :class:`ConvBN`."""
    stem = space.stem
    layers = [ConvBN(3, stem.out_channels, 3, stride=stem.stride, activation_name=space.activation)]
    if stem.separable_out_channels is not None:
        layers.append(
            ConvBN(stem.out_channels, stem.out_channels, 3, groups=stem.out_channels, activation_name=space.activation)
        )
        layers.append(ConvBN(stem.out_channels, stem.separable_out_channels, 1))
    return nn.Sequential(*layers)


class Head(nn.Module):
    """1x1 convolution, BN, activation, global average pool, dropout, fully connected layer."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        channels = space.head.out_channels
        self.conv = ConvBN(space.cells[-1].out_channels, channels, 1, activation_name=space.activation)
        self.dropout = nn.Dropout(space.head.dropout)
        self.classifier = nn.Linear(channels, space.num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map [N, C, H, W] to logits [N, num_classes]."""
        logits: Tensor = self.classifier(self.dropout(self.conv(x_NCHW).mean((2, 3))))
        return logits


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Initialise every layer from one generator: He (fan out) convolutions, BN at identity, N(0, 0.01) classifier."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)
