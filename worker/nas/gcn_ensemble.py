"""GCNs stopped early: an ensemble, and a prediction for every pair that has not seen its label.

The paper's GCN trained to the end learns the labels' noise. Here short trainings, each without a part of the pairs, are
stopped where they predict best what they have not seen. They say how well a pair is predicted without its label, and
when to stop. What predicts are GCNs on all pairs. Where the labels are noisy, the stops lie before the first decay of
the learning rate, and these GCNs stop after as many epochs; where they are clean, later, and these go as far through
the whole schedule (NAS-Bench-Macro, 1,000 and 2,000 pairs with little noise: tau higher by 0.006 than the average of
the short ones). Labels are accuracies, as in the paper: Adam's steps and its weight decay are of the size of
accuracies, and on labels of unit variance the same network overfits (100 pairs without noise: tau 0.85 instead of
0.89). Legend: N pairs.
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

NUM_PARTS = 4
NUM_MEMBERS, NUM_LONG_MEMBERS = 4, 2
"""Members that stop early cost little and err more; those of the whole schedule cost as much as the paper's GCN."""
_PART_EPOCHS_SHARE = 0.5
_CHECKS_PER_FIT = 25
_MAIN_EFFECT_NODES = 2048
_PARTS_WORK = 0.5
"""Roughly the share of those without a part in the whole work."""

OnFraction = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class GCNMember:
    """One early-stopped GCN.

    Attributes:
        fit: The network.
        main_effects: The additive model closest to its predictions over the whole space.
    """

    fit: GCNFit
    main_effects: AdditiveFunction

    def predict(self, index_N: Int64Array) -> tuple[Float64Array, Float64Array]:
        """Return float64 [N] twice: the additive part of the network's predictions for these nodes, and the rest."""
        additive_N = self.main_effects.of(self.fit.graph.choices(index_N))
        return additive_N, predict_nodes(self.fit, index_N) - additive_N


@dataclass(frozen=True, eq=False)
class GCNEnsemble:
    """Early-stopped GCNs whose predictions are averaged.

    Attributes:
        members: On all pairs.
        stopped: The share of its schedule after which each training without a part was best.
        left_out_additive_N: float64, the additive part of the prediction for each pair by the GCN that left it out.
        left_out_interaction_N: float64, the rest of that prediction.
    """

    members: tuple[GCNMember, ...]
    stopped: tuple[float, ...]
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
    """Fit GCNs without a part of the pairs each, then the members, by the paper's loss and schedule.

    Args:
        graph: The graph over S_t.
        features: Its nodes' Gray bits.
        index_N: int64 [N], nodes of the sampled architectures.
        accuracy_N: float64 [N], their accuracies.
        config: The paper's fit; those without a part have half its epochs.
        rng: Draws the parts and the initial weights.
        device: Where to train.
        on_fraction: Called with the share done, in (0, 1]; it may raise to cancel.
    """
    part_N = _parts(index_N, rng)
    probe_M = rng.integers(0, graph.num_nodes, _MAIN_EFFECT_NODES)
    report = on_fraction or (lambda _fraction: None)

    def member_of(fit: GCNFit) -> GCNMember:
        predicted_M = predict_nodes(fit, probe_M).astype(np.float64)
        return GCNMember(fit, fit_additive(graph.factor_sizes, graph.choices(probe_M), predicted_M).function)

    def training(epochs: int) -> _Training:
        seed = int(rng.integers(2**62))
        return _Training(graph, features, replace(config, epochs=epochs), seed, torch.device(device))

    left_out = np.zeros((2, len(index_N)))
    stopped = []
    short = math.ceil(config.epochs * _PART_EPOCHS_SHARE)
    for number in range(NUM_PARTS):
        left = part_N == number
        fit, epoch = training(short).best(
            short,
            (index_N[~left], accuracy_N[~left]),
            (index_N[left], accuracy_N[left]),
            _passed_on(report, _PARTS_WORK * number / NUM_PARTS, _PARTS_WORK / NUM_PARTS),
        )
        stopped.append(epoch / short)
        left_out[:, left] = member_of(fit).predict(index_N[left])
    stop = float(np.median(stopped))
    # the learning rate is the same so far: as many epochs, not as large a share of more of them
    is_early = stop <= min(config.milestones, default=1.0)
    epochs = round(stop * (short if is_early else config.epochs))
    num_members = NUM_MEMBERS if is_early else NUM_LONG_MEMBERS
    share = (1.0 - _PARTS_WORK) / num_members
    all_pairs = (index_N, accuracy_N)
    members = []
    for number in range(num_members):
        on_epoch = _passed_on(report, _PARTS_WORK + share * number, share)
        fit, _ = training(config.epochs).best(epochs, all_pairs, all_pairs, on_epoch)
        members.append(member_of(fit))
    report(1.0)
    return GCNEnsemble(tuple(members), tuple(stopped), left_out[0], left_out[1])


def _passed_on(report: OnFraction, done: float, share: float) -> OnFraction:
    """What passes a training's progress on as that of the ensemble."""
    return lambda fraction: report(done + share * fraction)


def _parts(index_N: Int64Array, rng: np.random.Generator) -> Int64Array:
    """int64 [N], the part of each pair; pairs of one node share theirs, or leaving one out would show the other."""
    distinct_M, position_N = np.unique(index_N, return_inverse=True)
    return np.asarray(rng.permutation(np.arange(len(distinct_M)) % NUM_PARTS)[position_N])


@dataclass(frozen=True)
class _Training:
    """The training of one GCN."""

    graph: HammingGraph
    features: FactorFeatures
    config: GCNTrainingConfig
    seed: int
    device: torch.device

    def best(
        self,
        epochs: int,
        fitted: tuple[Int64Array, Float64Array],
        checked: tuple[Int64Array, Float64Array],
        on_fraction: OnFraction,
    ) -> tuple[GCNFit, int]:
        """Return the network at the epoch of up to ``epochs`` that is best for some pairs, and which (0: as drawn).

        Checked on the fitted pairs themselves that is the last epoch or one shortly before: the first updates overshoot
        by far, and now and then a later one does.
        """
        module = GCN(self.features.num_bits, self.config.hidden_sizes, torch.Generator().manual_seed(self.seed))
        torch.nn.init.constant_(module.head.bias, float(np.median(fitted[1])))
        module.to(self.device)
        optimizer = torch.optim.Adam(
            module.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        field, target = self._field(*fitted)
        check_field, check_target = self._field(*checked)
        best = (float("inf"), 0, {name: value.clone() for name, value in module.state_dict().items()})
        interval = max(1, self.config.epochs // _CHECKS_PER_FIT)
        losses = []
        for epoch in range(1, epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(epoch - 1)
            losses.append(train_epoch(module, field, target, optimizer))
            if epoch % interval == 0 or epoch == epochs:
                with torch.no_grad():
                    loss = l1_loss(module(check_field), check_target).item()
                if loss < best[0]:
                    best = (loss, epoch, {name: value.clone() for name, value in module.state_dict().items()})
            on_fraction(epoch / epochs)
        module.load_state_dict(best[2])
        module.eval().requires_grad_(False)
        curve = torch.stack(losses).cpu().numpy().astype(np.float64) if losses else np.zeros(0)
        return GCNFit(module, self.graph, self.features, curve, self.device), best[1]

    def _field(self, index_N: Int64Array, accuracy_N: Float64Array) -> tuple[ReceptiveField, torch.Tensor]:
        return (
            receptive_field(self.graph, self.features, index_N, self.device),
            torch.as_tensor(accuracy_N, dtype=torch.float32, device=self.device),
        )
