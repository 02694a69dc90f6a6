"""The supernet S: the weights of every choice of every cell, of which an architecture M selects a sub-network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from app.domain.search_space import SearchSpace
from worker.nas.blocks import Head, build_choice, build_stem, initialise


class Supernet(nn.Module):
    """All choices of all cells of a search space, with one stem and one head.

    ``cells[cell_index][choice]`` is a block. Only the blocks of the chosen path run and get gradients.
    """

    def __init__(self, space: SearchSpace, generator: torch.Generator | None = None) -> None:
        """Build the supernet.

        Args:
            space: The space of the networks that are trained (a proxy, where the search trains one).
            generator: Source of the initial weights; None leaves torch's own initialisation (for loading a checkpoint).
        """
        super().__init__()
        self.space = space
        self.stem = build_stem(space)
        self.cells = nn.ModuleList(
            nn.ModuleList(build_choice(space, cell_index, choice) for choice in cell.choices)
            for cell_index, cell in enumerate(space.cells)
        )
        self.head = Head(space)
        if generator is not None:
            initialise(self, generator)

    def block(self, cell_index: int, choice: int) -> nn.Module:
        """Return one choice of one cell."""
        choices = self.cells[cell_index]
        assert isinstance(choices, nn.ModuleList)
        return choices[choice]

    def forward(self, x_NCHW: Tensor, architecture: Sequence[int]) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, num_classes] through one architecture's sub-network."""
        x_NCHW = self.stem(x_NCHW)
        for cell_index, choice in enumerate(architecture):
            x_NCHW = self.block(cell_index, choice)(x_NCHW)
        logits: Tensor = self.head(x_NCHW)
        return logits

    def subnetwork(self, architecture: Sequence[int]) -> nn.Sequential:
        """Return the sub-network of an architecture, sharing the supernet's weights."""
        path = [self.block(cell_index, choice) for cell_index, choice in enumerate(self.space.check(architecture))]
        return nn.Sequential(self.stem, *path, self.head)
