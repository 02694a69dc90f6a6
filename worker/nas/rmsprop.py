"""RMSProp as the mobile networks of the paper's time were trained with, which ``torch.optim.RMSprop`` is not.

    v <- alpha v + (1 - alpha) g^2,   b <- momentum b + lr g / sqrt(v + eps),   w <- w - b,   v_0 = 1

With epsilon inside the root and v starting at one, a learning rate of 0.128 is a sensible one: the first steps are
those of plain gradient descent. With torch's form the first step moves every weight by the learning rate itself.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class RMSProp(torch.optim.Optimizer):
    """RMSProp with momentum, weight decay in the gradient, and the learning rate inside the momentum."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        alpha: float = 0.9,
        eps: float = 1e-3,
    ) -> None:
        """Optimise parameters; the state of each exists from the beginning, so that a checkpoint can list it."""
        defaults = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "alpha": alpha, "eps": eps}
        super().__init__(parameters, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["square_avg"] = torch.ones_like(parameter)
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Make one step along the gradients that are there."""
        assert closure is None, "no closure is ever evaluated again"
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._step(group, parameters)

    def _step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        squares = [self.state[parameter]["square_avg"] for parameter in parameters]
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - group["alpha"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, gradients, roots, value=group["lr"])
        torch._foreach_sub_(parameters, buffers)
