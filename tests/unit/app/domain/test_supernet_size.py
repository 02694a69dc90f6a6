"""The size of a supernet from its description: torch's own count, and a lower bound that no training stays under."""

import pytest
import torch
from torch import nn

from app.domain.search_config import from_preset
from app.domain.search_space import Cell, Choice, Head, SearchSpace, Stem, preset
from app.domain.supernet_size import (
    MAX_SUPERNET_PARAMS,
    check_supernet_size,
    least_training_bytes,
    supernet_params,
)
from worker.nas.supernet import Supernet


def large() -> SearchSpace:
    """10 choices in each of 64 cells: 343 billion parameters, were they ever made."""
    choices = tuple(Choice(kernel_size=k, expansion=e) for k in (3, 5, 7, 9, 11) for e in (15, 16))
    return preset("nas-bench-macro").model_copy(
        update={"cells": (Cell(out_channels=4096, choices=choices),) * 64, "default_segments": None}
    )


@pytest.mark.parametrize("name", ["fairnas", "fairnas-se", "nas-bench-macro"])
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_parameters_are_those_that_torch_counts(name: str, width: float) -> None:
    space = preset(name).proxy(resolution=32, width=width)
    with torch.device("meta"):
        network = Supernet(space)
    assert supernet_params(space) == sum(parameter.numel() for parameter in network.parameters())


def test_a_space_beyond_any_machine_is_refused_at_once() -> None:
    assert supernet_params(large()) > 300 * 10**9
    with pytest.raises(ValueError, match=r"parameters over all choices, and at most 1,073,741,824 are trained"):
        check_supernet_size(large())


def test_the_largest_supernet_may_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    space = preset("nas-bench-macro")
    monkeypatch.setattr("app.domain.supernet_size.MAX_SUPERNET_PARAMS", supernet_params(space))
    check_supernet_size(space)
    monkeypatch.setattr("app.domain.supernet_size.MAX_SUPERNET_PARAMS", supernet_params(space) - 1)
    with pytest.raises(ValueError, match="give fewer channels or choices, or a smaller proxy_width"):
        check_supernet_size(space)


def test_a_search_is_refused_for_its_proxy_and_not_for_its_target() -> None:
    """What is trained counts: a narrow proxy of a space too large for any machine may be searched."""
    segments = [[i, i + 1] for i in range(0, 64, 2)]
    changes = {"segments": segments, "num_sampled": 12, "num_held_out": 2, "num_reevaluated": 6, "num_preserved": 2}
    with pytest.raises(ValueError, match="the supernet of nas-bench-macro would have"):
        from_preset("quick", {**changes, "proxy_width": 1.0}).resolved(large())
    narrow = from_preset("quick", {**changes, "proxy_width": 0.05}).resolved(large())
    assert supernet_params(large().proxy(width=narrow.proxy_width)) <= MAX_SUPERNET_PARAMS


def convolution_outputs(space: SearchSpace, architecture: tuple[int, ...]) -> int:
    """Values per image of the stem's first convolution and of those that expand and filter in the cells."""
    with torch.device("meta"):
        network = Supernet(space).subnetwork(architecture)
        image = torch.empty(1, 3, space.input_resolution, space.input_resolution)
    sizes = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("0.0.conv", "expand.conv", "depthwise.conv")):
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
    network.eval()(image)
    return sum(sizes)


def test_the_least_memory_is_weights_momentum_and_the_narrowest_activations() -> None:
    wide, narrow = Choice(kernel_size=5, expansion=6), Choice(kernel_size=3, expansion=2)
    space = SearchSpace(
        name="odd",
        input_resolution=15,
        num_classes=3,
        stem=Stem(out_channels=6),
        cells=(
            Cell(out_channels=8, stride=2, choices=(wide, narrow)),
            Cell(out_channels=8, choices=(wide, Choice(kind="identity"))),
            Cell(out_channels=12, choices=(narrow, wide)),
        ),
        head=Head(out_channels=16),
    )
    activations = convolution_outputs(space, (1, 1, 0))
    assert least_training_bytes(space, 0, 4) == 8 * supernet_params(space)
    assert least_training_bytes(space, 32, 4) - least_training_bytes(space, 0, 4) == 32 * 4 * activations
    assert least_training_bytes(space, 32, 2) - least_training_bytes(space, 0, 2) == 32 * 2 * activations
