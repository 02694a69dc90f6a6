"""The parts of a search space's networks, and whole networks, as ONNX models for timing: batch 1, BN folded.

Weights are constants, which compress to nothing and take the time of any others; each layer averages its inputs, so no
activation grows or vanishes (denormal numbers would be slow).
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from app.domain import seeds
from app.domain.multi_adds import squeeze_channels
from app.domain.search_space import Activation, Architecture, SearchSpace
from worker.nas import latency_measurement

_OPSET, _IR_VERSION = 17, 8
"""What runtimes from 2022 on can read."""

NUM_WHOLE_NETWORKS = 20
"""Random networks on which the sum of the parts is checked."""


class _Graph:
    """An ONNX graph under construction: a chain that ends at :attr:`out`."""

    def __init__(self, channels: int, resolution: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.out, self.channels, self.resolution = "input", channels, resolution
        self.is_map = True
        self.input = helper.make_tensor_value_info(
            "input", onnx.TensorProto.FLOAT, [1, channels, resolution, resolution]
        )

    def add(self, kind: str, *more: str, inputs: Sequence[str] | None = None, **attributes: Any) -> str:
        """Append a node on the chain's end, or on other inputs, and return its output's name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [*(inputs or [self.out]), *more], [name], **attributes))
        self.out = name
        return name

    def constant(self, shape: Sequence[int], value: float) -> str:
        """Add weights of one value and return their name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.full(shape, value, dtype=np.float32), name))
        return name

    def conv(self, out_channels: int, kernel_size: int = 1, *, stride: int = 1, groups: int = 1) -> None:
        """Convolution with bias (of the folded BN)."""
        fan_in = self.channels // groups * kernel_size**2
        weight = self.constant((out_channels, self.channels // groups, kernel_size, kernel_size), 1 / fan_in)
        bias = self.constant((out_channels,), 0.01)
        pad = kernel_size // 2
        self.add(
            "Conv",
            weight,
            bias,
            kernel_shape=[kernel_size] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )
        self.channels, self.resolution = out_channels, -(-self.resolution // stride)

    def activation(self, name: Activation) -> None:
        """Activation of that name."""
        match name:
            case "relu":
                self.add("Relu")
            case "relu6":
                self.add("Clip", self.constant((), 0.0), self.constant((), 6.0))
            case "swish":
                before = self.out
                self.add("Mul", self.add("Sigmoid"), inputs=[before])

    def model(self) -> onnx.ModelProto:
        """Return the checked model."""
        shape = [1, self.channels, self.resolution, self.resolution] if self.is_map else [1, self.channels]
        output = helper.make_tensor_value_info(self.out, onnx.TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "network", [self.input], [output], self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="nasatlas"
        )
        onnx.checker.check_model(model)
        return model


def _stem(graph: _Graph, space: SearchSpace) -> None:
    stem = space.stem
    graph.conv(stem.out_channels, 3, stride=stem.stride)
    graph.activation(space.activation)
    if stem.separable_out_channels is not None:
        graph.conv(stem.out_channels, 3, groups=stem.out_channels)
        graph.activation(space.activation)
        graph.conv(stem.separable_out_channels)


def _cell(graph: _Graph, space: SearchSpace, cell_index: int, choice_index: int) -> None:
    cell = space.cells[cell_index]
    choice = cell.choices[choice_index]
    if choice.kind == "identity":
        if space.keeps_shape(cell_index):
            graph.add("Identity")
        else:
            graph.conv(cell.out_channels, stride=cell.stride)
        return
    entered, in_channels = graph.out, graph.channels
    expanded, activation = in_channels * choice.expansion, space.cell_activation or space.activation
    graph.conv(expanded)
    graph.activation(activation)
    graph.conv(expanded, choice.kernel_size, stride=cell.stride, groups=expanded)
    graph.activation(activation)
    if squeezed := squeeze_channels(choice, in_channels):
        _squeeze_excitation(graph, squeezed, activation)
    graph.conv(cell.out_channels)
    if space.keeps_shape(cell_index):
        graph.add("Add", entered)


def _squeeze_excitation(graph: _Graph, squeezed: int, activation: Activation) -> None:
    entered, channels, resolution = graph.out, graph.channels, graph.resolution
    graph.add("GlobalAveragePool")
    graph.resolution = 1
    graph.conv(squeezed)
    graph.activation(activation)
    graph.conv(channels)
    graph.add("Mul", graph.add("Sigmoid"), inputs=[entered])
    graph.resolution = resolution


def _head(graph: _Graph, space: SearchSpace) -> None:
    graph.conv(space.head.out_channels)
    graph.activation(space.activation)
    graph.add("GlobalAveragePool")
    graph.add("Flatten")
    weight = graph.constant((space.num_classes, graph.channels), 1 / graph.channels)
    graph.add("Gemm", weight, graph.constant((space.num_classes,), 0.01), transB=1)
    graph.channels, graph.is_map = space.num_classes, False


def network(space: SearchSpace, architecture: Sequence[int]) -> onnx.ModelProto:
    """Return a whole network, from an image to logits."""
    graph = _Graph(3, space.input_resolution)
    _stem(graph, space)
    for cell_index, choice in enumerate(space.check(architecture)):
        _cell(graph, space, cell_index, choice)
    _head(graph, space)
    return graph.model()


def parts(space: SearchSpace) -> tuple[dict[str, onnx.ModelProto], list[list[str]]]:
    """Return the models of stem, head and every distinct choice by name, and the name of each cell's choices."""
    stem = _Graph(3, space.input_resolution)
    _stem(stem, space)
    models, cells = {"stem": stem.model()}, []
    channels, resolution = stem.channels, stem.resolution
    for cell_index, cell in enumerate(space.cells):
        names = []
        for choice_index in range(len(cell.choices)):
            graph = _Graph(channels, resolution)
            _cell(graph, space, cell_index, choice_index)
            # cells of one shape share their choices' models
            content = graph.model().SerializeToString()
            names.append(next((n for n, m in models.items() if m.SerializeToString() == content), ""))
            if not names[-1]:
                names[-1] = f"cell{cell_index}-{choice_index}"
                models[names[-1]] = graph.model()
        cells.append(names)
        channels, resolution = cell.out_channels, -(-resolution // cell.stride)
    head = _Graph(channels, resolution)
    _head(head, space)
    return {**models, "head": head.model()}, cells


def sampled_networks(space: SearchSpace, seed: int = 0) -> list[Architecture]:
    """Return random architectures, on which the sum of the parts is checked."""
    rng = seeds.generator(seed, None, "latency networks")
    return [tuple(int(rng.integers(n)) for n in space.num_choices) for _ in range(NUM_WHOLE_NETWORKS)]


def bundle(space: SearchSpace) -> bytes:
    """Return a zip archive with all that a target needs: models, what they are of, and the script that times them."""
    models, cells = parts(space)
    networks = []
    for number, architecture in enumerate(sampled_networks(space)):
        networks.append({"model": f"network{number}", "architecture": list(architecture)})
        models[f"network{number}"] = network(space, architecture)
    contents = {
        "search_space": space.model_dump(mode="json"),
        "base": ["stem", "head"],
        "cells": cells,
        "networks": networks,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contents.json", json.dumps(contents))
        script = Path(latency_measurement.__file__)
        archive.writestr(script.name, script.read_text(encoding="utf-8"))
        for name, model in models.items():
            archive.writestr(f"{name}.onnx", model.SerializeToString())
    return buffer.getvalue()
