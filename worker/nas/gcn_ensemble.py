"""GCNs that each leave out a part of the pairs: early stopping, an ensemble, and a left-out prediction for every pair.

The paper's GCN trained to the end learns the labels' noise. Here short trainings, each without a part of the pairs, are
stopped where they predict best what they have not seen; they say how well a pair is predicted without its label, and
after which share of the schedule to stop. What predicts are GCNs on all pairs, trained for that share of the whole
schedule (NAS-Bench-Macro, 1,000 and 2,000 pairs with little noise: tau higher by 0.006 than the short ones' average).
Labels are accuracies, as in the paper: Adam's steps and its weight decay are of the size of accuracies, and on labels
of unit variance the same network overfits (100 pairs without noise: tau 0.85 instead of 0.89). Legend: N pairs.
"""

import math
from collections.abc import Callable, Iterator
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
NUM_MEMBERS = 2
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
        fit, epoch = training(short).until_best(
            (index_N[~left], accuracy_N[~left]),
            (index_N[left], accuracy_N[left]),
            _passed_on(report, _PARTS_WORK * number / NUM_PARTS, _PARTS_WORK / NUM_PARTS),
        )
        stopped.append(epoch / short)
        left_out[:, left] = member_of(fit).predict(index_N[left])
    epochs = round(float(np.median(stopped)) * config.epochs)
    members = []
    for number in range(NUM_MEMBERS):
        share = (1.0 - _PARTS_WORK) / NUM_MEMBERS
        fit = training(config.epochs).until(
            epochs, (index_N, accuracy_N), _passed_on(report, _PARTS_WORK + share * number, share)
        )
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

    def until_best(
        self,
        fitted: tuple[Int64Array, Float64Array],
        left_out: tuple[Int64Array, Float64Array],
        on_fraction: OnFraction,
    ) -> tuple[GCNFit, int]:
        """Return the network at its best epoch for the left-out pairs, and which it was (0: as drawn)."""
        module = self._drawn(fitted[1])
        check_field, check_target = self._field(*left_out)
        best = (float("inf"), 0, _weights(module))
        interval = max(1, self.config.epochs // _CHECKS_PER_FIT)
        losses = []
        for epoch, loss in self._epochs(module, fitted, self.config.epochs):
            losses.append(loss)
            if epoch % interval == 0 or epoch == self.config.epochs:
                with torch.no_grad():
                    left_out_loss = l1_loss(module(check_field), check_target).item()
                if left_out_loss < best[0]:
                    best = (left_out_loss, epoch, _weights(module))
            on_fraction(epoch / self.config.epochs)
        module.load_state_dict(best[2])
        return self._fit(module, losses), best[1]

    def until(self, epochs: int, fitted: tuple[Int64Array, Float64Array], on_fraction: OnFraction) -> GCNFit:
        """Return the network after so many epochs of the schedule (0: as drawn)."""
        module = self._drawn(fitted[1])
        losses = []
        for epoch, loss in self._epochs(module, fitted, epochs):
            losses.append(loss)
            on_fraction(epoch / epochs)
        return self._fit(module, losses)

    def _drawn(self, accuracy_N: Float64Array) -> GCN:
        module = GCN(self.features.num_bits, self.config.hidden_sizes, torch.Generator().manual_seed(self.seed))
        torch.nn.init.constant_(module.head.bias, float(np.median(accuracy_N)))
        return module.to(self.device)

    def _epochs(
        self, module: GCN, fitted: tuple[Int64Array, Float64Array], epochs: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Train, and yield the number of each epoch, from 1, with its loss."""
        optimizer = torch.optim.Adam(
            module.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        field, target = self._field(*fitted)
        for epoch in range(1, epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(epoch - 1)
            yield epoch, train_epoch(module, field, target, optimizer)

    def _fit(self, module: GCN, losses: list[torch.Tensor]) -> GCNFit:
        module.eval().requires_grad_(False)
        curve = torch.stack(losses).cpu().numpy().astype(np.float64) if losses else np.zeros(0)
        return GCNFit(module, self.graph, self.features, curve, self.device)

    def _field(self, index_N: Int64Array, accuracy_N: Float64Array) -> tuple[ReceptiveField, torch.Tensor]:
        return (
            receptive_field(self.graph, self.features, index_N, self.device),
            torch.as_tensor(accuracy_N, dtype=torch.float32, device=self.device),
        )


def _weights(module: GCN) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
