"""One architecture M as a network of its own: no supernet inside, weights inherited from one or drawn afresh."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from app.domain.search_config import default_residual_scale
from app.domain.search_space import SearchSpace
from worker.nas.blocks import Head, InvertedResidual, build_choice, build_stem, initialise
from worker.nas.checkpoint import CheckpointError
from worker.nas.data import SearchData
from worker.nas.plain_evaluation import recalibrate
from worker.nas.supernet import Supernet
from worker.nas.supernet_initialisation import draw_by_fan_in


class Subnetwork(nn.Module):
    """The network of one architecture; ``cells[cell_index]`` is the block that it chose.

    Attributes:
        space: The space of the network (a proxy's, where that is trained).
        architecture: M.
    """

    def __init__(self, space: SearchSpace, architecture: Sequence[int]) -> None:
        """Build the network with torch's own initial weights.

        Raises:
            InvalidArchitectureError: If the architecture is none of the space.
        """
        super().__init__()
        self.space, self.architecture = space, space.check(architecture)
        self.stem = build_stem(space)
        self.cells = nn.Sequential(
            *(
                build_choice(space, cell_index, cell.choices[choice])
                for cell_index, (cell, choice) in enumerate(zip(space.cells, self.architecture, strict=True))
            )
        )
        self.head = Head(space)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map normalised images [N, 3, H, W] to logits [N, num_classes]."""
        logits: Tensor = self.head(self.cells(self.stem(x_NCHW)))
        return logits


def fresh_subnetwork(space: SearchSpace, architecture: Sequence[int], generator: torch.Generator) -> Subnetwork:
    """Return an untrained network, from one generator.

    Convolutions are drawn by fan-in, and residual branches start as in the supernet: a short schedule gets nowhere else
    with 19 cells.
    """
    network = Subnetwork(space, architecture)
    initialise(network, generator)
    residual_scale = default_residual_scale(space)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            draw_by_fan_in(module.weight, generator)
        elif isinstance(module, InvertedResidual) and module.residual:
            nn.init.constant_(module.project.bn.weight, residual_scale)
    return network


def inherited_subnetwork(supernet: Supernet, architecture: Sequence[int], data: SearchData) -> Subnetwork:
    """Return the network of an architecture with a copy of the supernet's weights, in evaluation mode.

    Its BN statistics are its own on the calibration set, as in a recalibrated evaluation.

    Args:
        supernet: The trained supernet; not changed.
        architecture: M.
        data: The calibration images, on the supernet's device.
    """
    network = Subnetwork(supernet.space, architecture)
    network.load_state_dict(inherited_weights(supernet, architecture))
    network.to(data.device)
    recalibrate(network, data.normalise(data.calibration_images_NCHW))
    return network


def inherited_weights(supernet: Supernet, architecture: Sequence[int]) -> dict[str, Tensor]:
    """Return the tensors of a supernet that an architecture selects, by the names of a :class:`Subnetwork`."""
    path = supernet.space.check(architecture)
    selected = {}
    for name, tensor in supernet.state_dict().items():
        parts = name.split(".")
        if parts[0] != "cells":
            selected[name] = tensor
        elif path[int(parts[1])] == int(parts[2]):
            selected[".".join(("cells", parts[1], *parts[3:]))] = tensor
    return selected


def load_subnetwork(space: SearchSpace, architecture: Sequence[int], tensors: dict[str, Tensor]) -> Subnetwork:
    """Return the network of an architecture with given weights, in evaluation mode.

    Raises:
        CheckpointError: If they are not those of this network.
    """
    network = Subnetwork(space, architecture)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the weights are not those of {space.code(architecture)}: {error}") from error
    return network.eval()


@torch.no_grad()
def num_correct(
    network: nn.Module, data: SearchData, batch_size: int = 64, on_batch: Callable[[], None] = lambda: None
) -> int:
    """Return how many validation images a network classifies correctly; it is left in evaluation mode.

    An image whose logits are not all finite counts as misclassified.

    Args:
        network: On the images' device.
        data: The images.
        batch_size: How many are classified at once.
        on_batch: Called before each batch; may raise to stop.
    """
    network.eval()
    correct = 0
    for images, labels_N in zip(
        torch.split(data.validation_images_NCHW, batch_size),
        torch.split(data.validation_labels_N, batch_size),
        strict=True,
    ):
        on_batch()
        logits_NK = network(data.normalise(images)).float()
        right_N = (logits_NK.argmax(1) == labels_N) & logits_NK.isfinite().all(1)
        correct += int(right_N.sum())
    return correct
