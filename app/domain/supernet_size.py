"""How large the supernet of a search space is, from its description alone: before any memory is taken.

All choices of all cells have weights; an iteration runs one of each cell.
"""

from app.domain.multi_adds import cell_costs, fixed_cost, halved
from app.domain.search_space import SearchSpace

MAX_SUPERNET_PARAMS = 2**30
"""4 GiB of weights; the supernet of the paper has less than 1/60 of it."""

_WEIGHT_BYTES = 8
"""float32, and as much for the momentum; gradients are there for the sampled path only."""


def supernet_params(space: SearchSpace) -> int:
    """Return the trainable parameters of a space's supernet."""
    return fixed_cost(space).params + sum(cost.params for costs in cell_costs(space) for cost in costs)


def check_supernet_size(space: SearchSpace) -> None:
    """Check that a supernet is not beyond any machine.

    Raises:
        ValueError: If it has more than :data:`MAX_SUPERNET_PARAMS` parameters.
    """
    if (num_params := supernet_params(space)) > MAX_SUPERNET_PARAMS:
        raise ValueError(
            f"the supernet of {space.name} would have {num_params:,} parameters over all choices, and at most "
            f"{MAX_SUPERNET_PARAMS:,} are trained; give fewer channels or choices, or a smaller proxy_width"
        )


def least_training_bytes(space: SearchSpace, batch_size: int, activation_bytes: int) -> int:
    """Return what training a supernet takes at the very least, even if every path were the narrowest.

    Args:
        space: The space that is trained (the proxy, if there is one).
        batch_size: Images at a time on one device.
        activation_bytes: Bytes of one activation.
    """
    return _WEIGHT_BYTES * supernet_params(space) + batch_size * activation_bytes * _least_activations(space)


def _least_activations(space: SearchSpace) -> int:
    """Outputs of the convolutions per image, which the backward pass needs; in every cell the fewest of any choice."""
    resolution = halved(space.input_resolution, space.stem.stride)
    total = space.stem.out_channels * resolution**2
    for cell_index, cell in enumerate(space.cells):
        out_resolution = halved(resolution, cell.stride)
        expanded = min(
            0 if choice.kind == "identity" else space.in_channels(cell_index) * choice.expansion
            for choice in cell.choices
        )
        total += expanded * (resolution**2 + out_resolution**2)
        resolution = out_resolution
    return total
