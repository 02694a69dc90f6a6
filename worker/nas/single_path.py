"""What an iteration of a supernet's training is: one sampled sub-network (section 3.3, step 0), or FairNAS's set."""

import math

import numpy as np
import torch
from torch import nn

from app.domain.multi_adds import feasible_range
from app.domain.search_space import Architecture, SearchSpace
from app.domain.seeds import derive_seed, generator
from worker.nas.data import SearchData
from worker.nas.device import autocast_dtype
from worker.nas.supernet import Supernet
from worker.nas.supernet_initialisation import initialise_supernet
from worker.nas.training_config import SupernetTrainingConfig
from worker.nas.training_loop import Iteration, SingleReplica, TrainingLoop, trainable
from worker.nas.training_state import SUPERNET, TrainingState


def sampled_path(space: SearchSpace, seed: int, epoch: int, iteration: int) -> Architecture:
    """Return the sub-network that an iteration trains: each cell's choice uniform and independent (section 3.3)."""
    rng = generator(seed, None, f"path {epoch} {iteration}")
    return tuple(int(choice) for choice in rng.integers(0, np.array(space.num_choices)))


def fair_paths(space: SearchSpace, seed: int, epoch: int, iteration: int) -> tuple[Architecture, ...]:
    """Return the sub-networks that a strictly fair iteration trains (FairNAS): together they hold every choice.

    Each cell takes its choices in an order of its own, a random permutation; as many paths as the cell with the most
    choices has, so that each of its choices is trained once. A cell with fewer goes through its permutation again.
    """
    rng = generator(seed, None, f"fair paths {epoch} {iteration}")
    orders = [rng.permutation(num_choices) for num_choices in space.num_choices]
    return tuple(tuple(int(order[turn % len(order)]) for order in orders) for turn in range(max(space.num_choices)))


def learning_rate_at(config: SupernetTrainingConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of a step of all: a cosine from the initial rate to 0, after a linear rise if any."""
    num_rising = config.warmup_fraction * num_steps
    rise = min(1.0, (step + 1) / num_rising) if num_rising else 1.0
    return rise * config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


def initial_supernet(space: SearchSpace, config: SupernetTrainingConfig, seed: int) -> Supernet:
    """Return the supernet that a training starts from."""
    network = Supernet(space)
    weights = torch.Generator().manual_seed(derive_seed(seed, None, "supernet weights"))
    initialise_supernet(network, config.initialisation, weights, residual_scale=config.residual_scale)
    return network


class SinglePathLoop(TrainingLoop):
    """Trains one sampled path of a supernet per iteration."""

    def __init__(
        self,
        space: SearchSpace,
        data: SearchData,
        config: SupernetTrainingConfig,
        *,
        seed: int,
        digest: str,
        replica: SingleReplica,
    ) -> None:
        """Prepare the training of a fresh supernet; see :class:`~worker.nas.training_loop.TrainingLoop`."""
        self.space, self.supernet_config = space, config
        network = initial_supernet(space, config, seed)
        trainable(network, data.device)
        self.active = _PathParameters(network)
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        for parameter in network.parameters():
            # From zero, momentum's first step is the gradient, as torch has it; and a checkpoint can list them all.
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        dtype = autocast_dtype(data.device)
        scaler = torch.amp.GradScaler(data.device.type, enabled=dtype == torch.float16)
        smallest, largest = feasible_range(space)
        super().__init__(
            TrainingState(network, optimizer, scaler, digest, name=SUPERNET, data_digest=data.digest()),
            data,
            config,
            seed=seed,
            replica=replica,
            dtype=dtype,
            multi_adds_per_layer=(smallest.multi_adds + largest.multi_adds) // 2 // (3 * space.num_cells),
        )

    def plan(self, epoch: int, iteration: int) -> Iteration:
        """Return a sampled path and its parameters; strictly fair: all paths of a permutation of each cell."""
        if self.supernet_config.fairness == "strict":
            paths = fair_paths(self.space, self.seed, epoch, iteration)
            return Iteration(self.active.everything, tuple((path,) for path in paths))
        path = sampled_path(self.space, self.seed, epoch, iteration)
        return Iteration(self.active.of(path), ((path,),))

    def learning_rate(self, step: int, num_steps: int) -> float:
        """Return the learning rate of a step of all."""
        return learning_rate_at(self.supernet_config, step, num_steps)


class _PathParameters:
    """The parameters of any path, listed without walking the modules in every iteration."""

    def __init__(self, network: Supernet) -> None:
        self.fixed = [*network.stem.parameters(), *network.head.parameters()]
        self.blocks = [
            [list(network.block(cell_index, choice).parameters()) for choice in range(num_choices)]
            for cell_index, num_choices in enumerate(network.space.num_choices)
        ]

    @property
    def everything(self) -> list[nn.Parameter]:
        """The parameters of all blocks."""
        return [*self.fixed, *(parameter for cell in self.blocks for block in cell for parameter in block)]

    def of(self, path: Architecture) -> list[nn.Parameter]:
        """Return the parameters that an iteration with this path gives a gradient."""
        chosen = (blocks[choice] for blocks, choice in zip(self.blocks, path, strict=True))
        return [*self.fixed, *(parameter for block in chosen for parameter in block)]
