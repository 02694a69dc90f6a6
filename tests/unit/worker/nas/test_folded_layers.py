import pytest
import torch
from torch import nn

import worker.nas.folded_layers as folded_layers
from app.domain.search_space import Cell, Choice, Head, SearchSpace, Stem
from worker.nas.blocks import build_choice, build_stem, initialise
from worker.nas.folded_layers import chunks, pool, raw_block

CHOICES = (
    Choice(kind="identity", kernel_size=1, expansion=1),
    Choice(kernel_size=3, expansion=3),
    Choice(kernel_size=7, expansion=6),
    Choice(kernel_size=5, expansion=2, se_ratio=0.5),
    Choice(kernel_size=1, expansion=3),
)


def space(activation):
    return SearchSpace(
        name="small",
        input_resolution=12,
        num_classes=4,
        activation=activation,
        stem=Stem(out_channels=8, stride=1, separable_out_channels=6),
        cells=(
            Cell(out_channels=6, stride=1, choices=CHOICES),
            Cell(out_channels=10, stride=2, choices=CHOICES),
        ),
        head=Head(out_channels=16),
    )


def with_statistics(block, generator):
    """The block with weights, scales and statistics that are all different."""
    initialise(block, generator)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return block.eval()


def blocks(activation):
    whole = space(activation)
    yield build_stem(whole), 3
    for cell_index in range(2):
        for choice in CHOICES:
            yield build_choice(whole, cell_index, choice), 6


@pytest.mark.parametrize("chunk_bytes", [2**23, 20_000])
@pytest.mark.parametrize("resolution", [12, 3, 1])
@pytest.mark.parametrize("activation", ["relu", "relu6", "swish"])
def test_a_folded_block_gives_what_the_block_gives(activation, resolution, chunk_bytes, monkeypatch):
    monkeypatch.setattr(folded_layers, "CHUNK_BYTES", chunk_bytes)
    generator = torch.Generator().manual_seed(1)
    for block, channels in blocks(activation):
        with_statistics(block, generator)
        x = torch.randn(7, channels, resolution, resolution, generator=generator)
        kept = x.clone()
        raw = raw_block(block, torch.device("cpu"), torch.float32)
        with torch.inference_mode():
            expected = block(x.clone())
            out = raw.fold(raw.running_affines())(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(x, kept)


def test_without_onednn_the_numbers_are_the_same(monkeypatch):
    block = with_statistics(build_choice(space("relu6"), 1, CHOICES[2]), torch.Generator().manual_seed(2))
    raw = raw_block(block, torch.device("cpu"), torch.float32)
    x = torch.randn(5, 6, 12, 12).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        fused = raw.fold(raw.running_affines())(x)
        monkeypatch.setattr(torch._C, "_has_mkldnn", False)
        torch.testing.assert_close(raw.fold(raw.running_affines())(x), fused, rtol=1e-5, atol=1e-5)


def test_chunks_are_even_and_keep_the_widest_activation_within_the_limit(monkeypatch):
    raw = raw_block(build_choice(space("relu6"), 1, CHOICES[2]), torch.device("cpu"), torch.float32)
    x, bytes_per_image = torch.empty(7, 6, 12, 12), 36 * 12 * 12 * 4
    for chunk_bytes, rows in (
        (7 * bytes_per_image, [7]),
        (7 * bytes_per_image - 1, [4, 3]),  # not 6 and 1
        (3 * bytes_per_image, [3, 2, 2]),
        (100, [1] * 7),
    ):
        monkeypatch.setattr(folded_layers, "CHUNK_BYTES", chunk_bytes)
        assert [len(chunk) for chunk in chunks(x, raw.layers)] == rows


def test_pool_is_the_mean_over_pixels():
    x = torch.randn(3, 5, 4, 2).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pool(x), x.mean((2, 3)))


def test_an_unknown_layer_is_our_own_bug():
    with pytest.raises(AssertionError, match="Dropout"):
        raw_block(nn.Dropout(), torch.device("cpu"), torch.float32)
