import pytest
import torch
from torch import nn

import worker.nas.folded_layers as folded_layers
from app.domain.search_space import Cell, Choice, Head, SearchSpace, Stem
from worker.nas.batch_norm import calibrate, combine, partial_moments
from worker.nas.blocks import build_choice, build_stem, initialise
from worker.nas.folded_layers import raw_block

CHOICES = (
    Choice(kind="identity", kernel_size=1, expansion=1),
    Choice(kernel_size=3, expansion=3),
    Choice(kernel_size=5, expansion=2, se_ratio=0.5),
)
SPACE = SearchSpace(
    name="small",
    input_resolution=12,
    num_classes=4,
    stem=Stem(out_channels=8, stride=2, separable_out_channels=6),
    cells=(Cell(out_channels=6, stride=1, choices=CHOICES), Cell(out_channels=10, stride=2, choices=CHOICES)),
    head=Head(out_channels=16),
)


def exact_moments(x):
    variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    return mean.float(), variance.float()


@pytest.mark.parametrize("shape", [(50, 24, 1, 1), (300, 100, 4, 4), (11, 40, 16, 16), (3, 96, 64, 64), (1, 5, 3, 3)])
def test_moments_are_those_of_all_parts_together(shape):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 2 + 5).contiguous(
        memory_format=torch.channels_last
    )
    for parts in ([x], list(x.split(2))):
        for ours, exact in zip(combine([partial_moments(part) for part in parts]), exact_moments(x), strict=True):
            torch.testing.assert_close(ours, exact, rtol=3e-6, atol=1e-6)


def blocks():
    yield build_stem(SPACE), 3
    for cell_index in range(2):
        for choice in CHOICES:
            yield build_choice(SPACE, cell_index, choice), 6


@pytest.mark.parametrize("chunk_bytes", [2**23, 20_000])
@pytest.mark.parametrize("budget_bytes", [2**30, 0])
def test_calibration_is_a_forward_pass_in_train_mode(budget_bytes, chunk_bytes, monkeypatch):
    monkeypatch.setattr(folded_layers, "CHUNK_BYTES", chunk_bytes)
    generator = torch.Generator().manual_seed(4)
    for block, channels in blocks():
        initialise(block, generator)
        block.train()
        x = torch.randn(20, channels, 12, 12, generator=generator) + 0.3
        seen = []
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.uniform_(-0.5, 0.5, generator=generator)
                module.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(exact_moments(inputs[0])))
        with torch.no_grad():
            expected = block(x.clone())
            raw = raw_block(block, torch.device("cpu"), torch.float32)
            kept = x.contiguous(memory_format=torch.channels_last)
            affines, out = calibrate(raw, kept, budget_bytes=budget_bytes)
            again = raw.fold(affines)(kept)
        layers = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(affines) == len(layers) == len(seen)
        for affine, layer, (mean, variance) in zip(affines, layers, seen, strict=True):
            scale = layer.weight / (variance + layer.eps).sqrt()
            torch.testing.assert_close(affine.scale_C, scale.detach(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(affine.shift_C, (layer.bias - mean * scale).detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(kept, x)
