"""Writes the network of an architecture as a readable PyTorch module that needs nothing of this project."""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import indent

from app.domain.multi_adds import count, squeeze_channels
from app.domain.search_space import Activation, SearchSpace

_ACTIVATIONS: dict[Activation, str] = {"relu": "nn.ReLU", "relu6": "nn.ReLU6", "swish": "nn.SiLU"}

_HEADER = '''"""The architecture {code} of the search space {space}.

{multi_adds:,} multi-adds per image, {params:,} parameters; images of {resolution} x {resolution} pixels.

    network, description = load("model.safetensors")
    logits = network(normalise(images, description))
"""

import json

import torch
from torch import nn
'''

_CONV_BN = '''
class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, activation."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, groups=1, activation=nn.Identity):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.activation = activation()

    def forward(self, x):
        return self.activation(self.bn(self.conv(x)))
'''

_ATTENTION = '''
class SqueezeExcitation(nn.Module):
    """Channel attention: pooled, squeezed, excited, gated by a sigmoid."""

    def __init__(self, channels, squeezed, activation):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(self.activation(self.squeeze(pooled))))
'''

_INVERTED_RESIDUAL = '''
class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1; residual where the shape stays."""

    def __init__(self, in_channels, out_channels, kernel_size, expansion, stride, residual, {squeezed}activation):
        super().__init__()
        expanded = in_channels * expansion
        self.residual = residual
        self.expand = ConvBN(in_channels, expanded, 1, activation=activation)
        self.depthwise = ConvBN(expanded, expanded, kernel_size, stride, groups=expanded, activation=activation)
{attention}        self.project = ConvBN(expanded, out_channels, 1)

    def forward(self, x):
        out = self.project({call}self.depthwise(self.expand(x)){close})
        return x + out if self.residual else out
'''

_NETWORK = '''
class Network(nn.Module):
    """{readable}."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
{stem}
        )
        self.cells = nn.Sequential(
{cells}
        )
        self.head = Head()

    def forward(self, images):
        """Map normalised images [N, 3, {resolution}, {resolution}] to logits [N, {num_classes}]."""
        return self.head(self.cells(self.stem(images)))
'''

_HEAD = '''
class Head(nn.Module):
    """1x1 convolution, global average pool, dropout, fully connected layer."""

    def __init__(self):
        super().__init__()
        self.conv = ConvBN({in_channels}, {out_channels}, 1, activation={activation})
        self.dropout = nn.Dropout({dropout})
        self.classifier = nn.Linear({out_channels}, {num_classes})

    def forward(self, x):
        return self.classifier(self.dropout(self.conv(x).mean((2, 3))))
'''

_LOADING = '''
def read_safetensors(path):
    """Return the tensors of a safetensors file by name, and the texts in its header."""
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    with open(path, "rb") as file:
        data = bytearray(file.read())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    texts = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(data[start + begin : start + end], dtype=dtypes[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).clone()
    return tensors, texts


def load(path):
    """Return the network with the weights of an exported safetensors file, and the file's description."""
    tensors, texts = read_safetensors(path)
    network = Network()
    network.load_state_dict(tensors)
    return network.eval(), json.loads(texts["description"])


def normalise(images, description):
    """Map images [N, 3, H, W] with values in [0, 1] to what the network was trained on."""
    mean, std = (torch.tensor(description[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std
'''


def model_source(space: SearchSpace, architecture: Sequence[int]) -> str:
    """Return the text of a Python module that holds the network of an architecture.

    It needs torch only; its ``load`` reads an export in safetensors format, whose tensors have the same names.

    Args:
        space: The space of the network (the proxy's, where that is handed out).
        architecture: M.

    Raises:
        InvalidArchitectureError: If the architecture is none of the space.
    """
    checked = space.check(architecture)
    cost = count(space, checked)
    head, activation = space.head, _ACTIVATIONS[space.activation]
    has_attention = _has_attention(space)
    parts = [
        _HEADER.format(
            code=space.code(checked),
            space=space.name,
            multi_adds=cost.multi_adds,
            params=cost.params,
            resolution=space.input_resolution,
        ),
        _CONV_BN,
        _ATTENTION if has_attention else "",
        _inverted_residual(has_attention=has_attention),
        _HEAD.format(
            in_channels=space.cells[-1].out_channels,
            out_channels=head.out_channels,
            activation=activation,
            dropout=head.dropout,
            num_classes=space.num_classes,
        ),
        _NETWORK.format(
            readable=space.readable(checked),
            stem=_lines(_stem(space)),
            cells=_lines(_cell(space, cell_index, choice) for cell_index, choice in enumerate(checked)),
            resolution=space.input_resolution,
            num_classes=space.num_classes,
        ),
        _LOADING,
    ]
    return "\n".join(part for part in parts if part)


def _lines(calls: Iterable[str]) -> str:
    return indent("\n".join(f"{call}," for call in calls), " " * 12)


def _stem(space: SearchSpace) -> Iterator[str]:
    """The layers of the stem, as calls."""
    stem, activation = space.stem, _ACTIVATIONS[space.activation]
    channels = stem.out_channels
    yield f"ConvBN(3, {channels}, 3, stride={stem.stride}, activation={activation})"
    if stem.separable_out_channels is not None:
        yield f"ConvBN({channels}, {channels}, 3, groups={channels}, activation={activation})"
        yield f"ConvBN({channels}, {stem.separable_out_channels}, 1)"


def _cell(space: SearchSpace, cell_index: int, choice_index: int) -> str:
    """The block that a cell chose, as a call."""
    cell, in_channels = space.cells[cell_index], space.in_channels(cell_index)
    choice, keeps_shape = cell.choices[choice_index], space.keeps_shape(cell_index)
    if choice.kind == "identity":
        return "nn.Identity()" if keeps_shape else f"ConvBN({in_channels}, {cell.out_channels}, 1, {cell.stride})"
    squeezed = squeeze_channels(choice, in_channels)
    arguments = [str(in_channels), str(cell.out_channels), str(choice.kernel_size), str(choice.expansion)]
    arguments += [str(cell.stride), str(keeps_shape)]
    if _has_attention(space):
        arguments.append(str(squeezed))
    activation = _ACTIVATIONS[space.cell_activation or space.activation]
    return f"InvertedResidual({', '.join(arguments)}, {activation})"


def _has_attention(space: SearchSpace) -> bool:
    return any(choice.se_ratio for cell in space.cells for choice in cell.choices)


def _inverted_residual(*, has_attention: bool) -> str:
    if not has_attention:
        return _INVERTED_RESIDUAL.format(squeezed="", attention="", call="", close="")
    return _INVERTED_RESIDUAL.format(
        squeezed="squeezed, ",
        attention="        self.attention = SqueezeExcitation(expanded, squeezed, activation) if squeezed else "
        "nn.Identity()\n",
        call="self.attention(",
        close=")",
    )
