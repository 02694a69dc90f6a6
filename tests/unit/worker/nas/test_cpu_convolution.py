"""The fast convolutions against torch's own, forward and backward."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from app.domain.search_space import preset
from worker.nas.cpu_convolution import DepthwiseConv, PointwiseConv, depthwise_weight_gradient, use_cpu_convolutions
from worker.nas.supernet import Supernet


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("resolution", [1, 2, 3, 4, 5, 8, 9])
def test_depthwise_weight_gradient(resolution, kernel_size, stride):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, resolution, resolution, dtype=torch.float64, generator=generator)
    weight = torch.zeros(8, 1, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(x, weight, None, stride, kernel_size // 2, groups=8)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    (expected,) = torch.autograd.grad(out, weight, grad)
    layout = torch.channels_last
    found = depthwise_weight_gradient(
        x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout), kernel_size, stride
    )
    assert torch.allclose(found, expected, atol=1e-10)


def test_gradients_agree_with_finite_differences():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    conv = DepthwiseConv(3, 3, 5, padding=2, groups=3, bias=False, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(conv, {"weight": w}, x), (x, conv.weight))


def gradients(network, x, path):
    network.zero_grad(set_to_none=True)
    loss = network(x, path).square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("space", "resolution"), [("fairnas", 32), ("fairnas-se", 16), ("nas-bench-macro", 16)])
def test_a_whole_network_trains_the_same(space, resolution):
    small = preset(space).proxy(resolution=resolution, width=0.25, num_classes=5)
    plain = Supernet(small, torch.Generator().manual_seed(0)).double()
    plain.head.dropout.p = 0.0
    fast = copy.deepcopy(plain)
    use_cpu_convolutions(fast)
    x = torch.randn(6, 3, resolution, resolution, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = [(3 * i + 2) % n for i, n in enumerate(small.num_choices)]
    loss, expected = gradients(plain, x, path)
    fast_loss, found = gradients(fast, x.contiguous(memory_format=torch.channels_last), path)
    assert torch.allclose(loss, fast_loss, rtol=1e-9)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert torch.allclose(found[name], grad, rtol=1e-7, atol=1e-9), name


def test_replacing_keeps_parameters_and_their_names():
    network = Supernet(preset("nas-bench-macro").proxy(width=0.25), torch.Generator().manual_seed(0))
    before = dict(network.named_parameters())
    use_cpu_convolutions(network)
    after = dict(network.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    kinds = {type(module) for module in network.modules()}
    assert {DepthwiseConv, PointwiseConv, nn.Conv2d} <= kinds
