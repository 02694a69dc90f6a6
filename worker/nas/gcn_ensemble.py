"""GCNs that each leave out a part of the pairs: early stopping, an ensemble, and a left-out prediction for every pair.

The paper's GCN trained to the end learns the labels' noise. Here each member is stopped where it predicts best the
pairs that it has not seen. Labels are accuracies, as in the paper: Adam's steps and its weight decay are of the size of
accuracies, and on labels of unit variance the same network overfits (NAS-Bench-Macro, 100 pairs without noise: tau 0.85
instead of 0.89). Legend: N pairs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import l1_loss

from app.domain.hamming_graph import FactorFeatures, Float64Array, HammingGraph, Int64Array
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.additive_ridge import fit_additive
from worker.nas.gcn import GCN
from worker.nas.gcn_prediction import GCNFit, predict_nodes
from worker.nas.gcn_training import GCNTrainingConfig, train_epoch
from worker.nas.receptive_field import ReceptiveField, receptive_field

NUM_MEMBERS = 4
_EPOCHS_SHARE = 0.5
_CHECKS_PER_FIT = 25
_MAIN_EFFECT_NODES = 2048

OnFraction = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class GCNMember:
    """One early-stopped GCN.

    Attributes:
        fit: The network as it was when it predicted its left-out pairs best.
        main_effects: The additive model closest to its predictions over the whole space.
        stopped_epoch: When that was.
    """

    fit: GCNFit
    main_effects: AdditiveFunction
    stopped_epoch: int

    def predict(self, index_N: Int64Array) -> tuple[Float64Array, Float64Array]:
        """Return float64 [N] twice: the additive part of the network's predictions for these nodes, and the rest."""
        additive_N = self.main_effects.of(self.fit.graph.choices(index_N))
        return additive_N, predict_nodes(self.fit, index_N) - additive_N


@dataclass(frozen=True, eq=False)
class GCNEnsemble:
    """Early-stopped GCNs whose predictions are averaged.

    Attributes:
        members: One per part of the pairs that was left out.
        left_out_additive_N: float64, the additive part of the prediction for each pair by the member that left it out.
        left_out_interaction_N: float64, the rest of that prediction.
    """

    members: tuple[GCNMember, ...]
    left_out_additive_N: Float64Array
    left_out_interaction_N: Float64Array


def fit_gcn_ensemble(
    graph: HammingGraph,
    features: FactorFeatures,
    index_N: Int64Array,
    accuracy_N: Float64Array,
    config: GCNTrainingConfig,
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
    on_fraction: OnFraction | None = None,
) -> GCNEnsemble:
    """Fit the members, each on all pairs but its part, by the paper's loss and schedule in a share of its epochs.

    Args:
        graph: The graph over S_t.
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float64 [N], their accuracies.
        config: The paper's fit; a member has half its epochs and three quarters of the pairs.
        rng: Draws the parts and the initial weights.
        device: Where to train.
        on_fraction: Called with the share done, in (0, 1]; it may raise to cancel.
    """
    config = replace(config, epochs=math.ceil(config.epochs * _EPOCHS_SHARE))
    part_N = _parts(index_N, rng)
    probe_M = rng.integers(0, graph.num_nodes, _MAIN_EFFECT_NODES)
    left_out = np.zeros((2, len(index_N)))
    members = []
    for number in range(NUM_MEMBERS):
        left = part_N == number
        training = _Training(graph, features, config, int(rng.integers(2**62)), torch.device(device))
        fit, epoch = training.run(
            (index_N[~left], accuracy_N[~left]),
            (index_N[left], accuracy_N[left]),
            _share_of(on_fraction, number),
        )
        effects = fit_additive(
            graph.factor_sizes, graph.choices(probe_M), predict_nodes(fit, probe_M).astype(np.float64)
        ).function
        members.append(GCNMember(fit, effects, epoch))
        left_out[:, left] = members[-1].predict(index_N[left])
    return GCNEnsemble(tuple(members), left_out[0], left_out[1])


def _share_of(on_fraction: OnFraction | None, number: int) -> OnFraction:
    """What passes a member's progress on as that of the ensemble."""
    return lambda fraction: None if on_fraction is None else on_fraction((number + fraction) / NUM_MEMBERS)


def _parts(index_N: Int64Array, rng: np.random.Generator) -> Int64Array:
    """int64 [N], the part of each pair; pairs of one node share theirs, or leaving one out would show the other."""
    distinct_M, position_N = np.unique(index_N, return_inverse=True)
    return np.asarray(rng.permutation(np.arange(len(distinct_M)) % NUM_MEMBERS)[position_N])


@dataclass(frozen=True)
class _Training:
    """The training of one member."""

    graph: HammingGraph
    features: FactorFeatures
    config: GCNTrainingConfig
    seed: int
    device: torch.device

    def run(
        self,
        fitted: tuple[Int64Array, Float64Array],
        left_out: tuple[Int64Array, Float64Array],
        on_fraction: OnFraction,
    ) -> tuple[GCNFit, int]:
        """Return the network at its best epoch for the left-out pairs, and which it was (0: as drawn)."""
        module = GCN(self.features.num_bits, self.config.hidden_sizes, torch.Generator().manual_seed(self.seed))
        torch.nn.init.constant_(module.head.bias, float(np.median(fitted[1])))
        module.to(self.device)
        optimizer = torch.optim.Adam(
            module.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        field, target = self._field(*fitted)
        check_field, check_target = self._field(*left_out)
        best = (float("inf"), 0, {name: value.clone() for name, value in module.state_dict().items()})
        interval = max(1, self.config.epochs // _CHECKS_PER_FIT)
        losses = []
        for epoch in range(1, self.config.epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(epoch - 1)
            losses.append(train_epoch(module, field, target, optimizer))
            if epoch % interval == 0 or epoch == self.config.epochs:
                with torch.no_grad():
                    loss = l1_loss(module(check_field), check_target).item()
                if loss < best[0]:
                    best = (loss, epoch, {name: value.clone() for name, value in module.state_dict().items()})
            on_fraction(epoch / self.config.epochs)
        module.load_state_dict(best[2])
        module.eval().requires_grad_(False)
        curve = torch.stack(losses).cpu().numpy().astype(np.float64)
        return GCNFit(module, self.graph, self.features, curve, self.device), best[1]

    def _field(self, index_N: Int64Array, accuracy_N: Float64Array) -> tuple[ReceptiveField, torch.Tensor]:
        return (
            receptive_field(self.graph, self.features, index_N, self.device),
            torch.as_tensor(accuracy_N, dtype=torch.float32, device=self.device),
        )
