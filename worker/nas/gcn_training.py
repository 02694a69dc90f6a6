"""Training of the GCN on the sampled pairs of a round (section 3.3, step 2; Eqn 4; values of section 4.1).

Legend: N labelled nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from app.domain.hamming_graph import FactorFeatures, Float64Array, HammingGraph, Int64Array
from worker.nas.gcn import GCN, check_hidden_sizes
from worker.nas.gcn_prediction import GCNFit, OnProgress, predict_nodes, predict_subspace
from worker.nas.receptive_field import ReceptiveField, receptive_field

__all__ = ["GCNFit", "GCNTrainingConfig", "OnEpoch", "OnProgress", "fit_gcn", "predict_nodes", "predict_subspace"]

OnEpoch = Callable[[int, float], None]

MIN_PAIRS = 2


@dataclass(frozen=True)
class GCNTrainingConfig:
    """How the GCN is trained; the defaults are the paper's.

    Attributes:
        hidden_sizes: Output sizes of the graph convolutions, one or two.
        epochs: Full-batch updates.
        learning_rate: Adam's, at the beginning.
        weight_decay: L2 penalty on all parameters, as Adam adds it to the gradient.
        milestones: Fractions of the epochs after which the learning rate is multiplied by ``decay``.
        decay: The factor.

    Raises:
        ValueError: If a value is outside what makes sense; the message names it.
    """

    hidden_sizes: tuple[int, ...] = (512, 512)
    epochs: int = 600
    learning_rate: float = 0.01
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1

    def __post_init__(self) -> None:
        check_hidden_sizes(self.hidden_sizes)
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be zero or more, got {self.weight_decay}")
        if not all(0 < milestone < 1 for milestone in self.milestones):
            raise ValueError(f"milestones are fractions of the epochs between 0 and 1, got {list(self.milestones)}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {self.decay}")

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= round(milestone * self.epochs) for milestone in self.milestones)
        return float(self.learning_rate * self.decay**passed)


def fit_gcn(
    graph: HammingGraph,
    features: FactorFeatures,
    index_N: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None,
) -> GCNFit:
    """Fit f to the sampled pairs by minimising the mean absolute error over all of them at once (Eqn 4).

    Accuracies are fitted as they are, as in the paper. Only the start differs from PyG's: the head's bias begins at the
    median label, the constant that minimises Eqn 4, so that no epochs go into finding the level of the accuracies.
    The same seed gives the same parameters, byte for byte, on the same kind of machine with the same thread count.

    Args:
        graph: The graph over S_t.
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float [N], their ``sampled_accuracy``.
        config: How to train.
        seed: Draws the initial weights; take it from :func:`app.domain.seeds.derive_seed`.
        device: Where to train.
        on_epoch: Called with (epochs done, mean absolute error of the last); it may raise to cancel.

    Returns:
        The fitted network with its loss curve.

    Raises:
        ValueError: If there are fewer than two pairs, lengths differ, an accuracy is not finite, a node is not in S_t,
            or training ended in a network that predicts the same for every architecture.
    """
    _check_pairs(index_N, accuracy_N)
    device = torch.device(device)
    module = GCN(features.num_bits, config.hidden_sizes, torch.Generator().manual_seed(seed))
    torch.nn.init.constant_(module.head.bias, float(np.median(accuracy_N)))
    module.to(device)
    field = receptive_field(graph, features, np.asarray(index_N, dtype=np.int64), device)
    target_N = torch.as_tensor(np.asarray(accuracy_N), dtype=torch.float32, device=device)
    loss_curve = _train(module, field, target_N, config, on_epoch)
    module.eval().requires_grad_(False)
    _check_alive(module(field), accuracy_N)
    return GCNFit(module, graph, features, loss_curve, device)


def _train(
    module: GCN, field: ReceptiveField, target_N: Tensor, config: GCNTrainingConfig, on_epoch: OnEpoch | None
) -> Float64Array:
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    losses = []
    for epoch in range(config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(epoch)
        loss = train_epoch(module, field, target_N, optimizer)
        losses.append(loss)
        if on_epoch is not None:
            on_epoch(epoch + 1, loss.item())
    return torch.stack(losses).cpu().numpy().astype(np.float64)


def train_epoch(module: GCN, field: ReceptiveField, target_N: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Make one full-batch update and return the mean absolute error before it (a scalar, still on the device)."""
    optimizer.zero_grad()
    loss = l1_loss(module(field), target_N)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _check_alive(predicted_N: Tensor, accuracy_N: Float64Array) -> None:
    """Refuse a network that ranks nothing; its table would look like any other.

    The first updates at a learning rate of 0.01 overshoot by far, and can leave all of the last layer's ReLUs at zero.
    Weight decay brings them back to life; without it, four fits of ten at 512 units ended so.
    """
    if not bool(torch.isfinite(predicted_N).all()):
        raise ValueError("fitting diverged: the predictions are not finite; use a smaller gcn_learning_rate")
    if bool((predicted_N == predicted_N[0]).all()) and np.ptp(accuracy_N) > 0:
        raise ValueError(
            "the fitted GCN predicts the same accuracy for every architecture: its units died in the first epochs; "
            "use a smaller gcn_learning_rate, a gcn_weight_decay above 0 (the paper: 5e-4) or more gcn_epochs"
        )


def _check_pairs(index_N: Int64Array, accuracy_N: Float64Array) -> None:
    if len(index_N) != len(accuracy_N):
        raise ValueError(f"{len(index_N)} nodes but {len(accuracy_N)} accuracies; give one accuracy per node")
    if len(index_N) < MIN_PAIRS:
        raise ValueError(f"fitting needs at least {MIN_PAIRS} pairs, got {len(index_N)}; sample more architectures")
    unusable = np.flatnonzero(~np.isfinite(accuracy_N))
    if unusable.size:
        raise ValueError(
            f"{unusable.size} of {len(accuracy_N)} accuracies are not finite (the first is pair {unusable[0]}); "
            "leave these pairs out or evaluate them again"
        )
