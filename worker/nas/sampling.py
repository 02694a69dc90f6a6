"""Uniform sampling of sub-networks without replacement (step 1 of the paper, section 3.4)."""

import numpy as np
import numpy.typing as npt

_LARGEST_SIZE = 2**63 - 1


def sample_distinct(size: int, num: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw distinct node indices of a subspace; every set of ``num`` nodes is equally likely.

    Time and memory grow with ``num``, not with ``size`` (Floyd's algorithm), unless a good part of the space is drawn.

    Args:
        size: |S_t|, the number of nodes; up to 2**63 - 1, so that the whole FairNAS space (6^19) fits.
        num: ``num_sampled``, how many to draw.
        generator: Source of randomness, derived from (seed, round, purpose).

    Returns:
        int64 array of ``num`` distinct indices in [0, size), in random order: a leading part is a uniform sample too.

    Raises:
        ValueError: If there are fewer than ``num`` nodes, ``num`` is below 1, or ``size`` is beyond 64 bits.
    """
    if num < 1:
        raise ValueError(f"num_sampled must be at least 1, not {num}")
    if num > size:
        raise ValueError(
            f"cannot sample {num:,} distinct architectures of {size:,}; num_sampled may be at most {size:,}"
        )
    if size > _LARGEST_SIZE:
        raise ValueError(f"can sample from at most {_LARGEST_SIZE:,} architectures, not from {size:,}")
    return generator.choice(size, num, replace=False, shuffle=True).astype(np.int64, copy=False)
