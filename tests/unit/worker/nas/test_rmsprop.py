"""RMSProp against its formula, and against torch's where the two agree."""

import pytest
import torch
from torch import nn

from worker.nas.rmsprop import RMSProp


def test_steps_follow_the_formula():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = RMSProp([weight], learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    w, v, b = weight.detach().clone(), torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        weight.grad = torch.tensor([0.5, -0.25 * step], dtype=torch.float64)
        g = weight.grad + 0.01 * w
        v = 0.9 * v + 0.1 * g**2
        b = 0.9 * b + 0.1 / (step + 1) * g / (v + 1e-3).sqrt()
        w = w - b
        optimizer.step()
        assert torch.allclose(weight.detach(), w, atol=1e-12)


def test_it_is_torchs_but_for_the_beginning_and_epsilon():
    ours, torchs = (nn.Parameter(torch.tensor([1.0, 2.0, 3.0])) for _ in range(2))
    first = RMSProp([ours], learning_rate=0.01, momentum=0.5, weight_decay=0.1, eps=0.0)
    second = torch.optim.RMSprop([torchs], lr=0.01, momentum=0.5, weight_decay=0.1, alpha=0.9, eps=0.0)
    for step in range(4):
        ours.grad = torch.tensor([0.3, -0.2, 0.1]) * (step + 1)
        torchs.grad = ours.grad.clone()
        if step == 0:
            second.step()
            second.state[torchs]["square_avg"].fill_(1.0)
            second.state[torchs]["momentum_buffer"].zero_()
            torchs.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
        first.step()
        second.step()
    assert torch.allclose(ours, torchs, atol=1e-6)


def test_the_first_step_is_about_plain_gradient_descent():
    weight = nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([1e-3])
    RMSProp([weight], learning_rate=0.128, momentum=0.9, weight_decay=0.0).step()
    assert 1.0 - weight.item() == pytest.approx(0.128e-3, rel=0.1)


def test_parameters_without_a_gradient_stay():
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    RMSProp([moved, still], learning_rate=0.1, momentum=0.9, weight_decay=0.1).step()
    assert torch.equal(still, torch.ones(2))
    assert not torch.equal(moved, torch.ones(2))
