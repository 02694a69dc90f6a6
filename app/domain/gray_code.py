"""Gray coding of architectures: the node features of the GCN (section 3.3, step 2).

The number of differing bits (``bit_distance``) of two choices is their level of difference in the properties.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from app.domain.search_space import Choice, SearchSpace

_KERNEL_BITS = {3: (0, 0), 5: (0, 1), 7: (1, 1)}
_FAIRNAS_PROPERTIES = [(k, e) for e in (3, 6) for k in (3, 5, 7)]


def reflected_gray_code(num_choices: int) -> tuple[tuple[int, ...], ...]:
    """Return the reflected Gray code of 0 to num_choices - 1, most significant bit first.

    Neighbouring numbers differ in one bit. One choice needs no bit.
    """
    num_bits = (num_choices - 1).bit_length()
    codes = [n ^ (n >> 1) for n in range(num_choices)]
    return tuple(tuple((code >> bit) & 1 for bit in reversed(range(num_bits))) for code in codes)


def choice_bits(choices: Sequence[Choice]) -> tuple[tuple[int, ...], ...]:
    """Return the bits of each choice of a cell.

    FairNAS's six choices take two Gray bits for the kernel (00 01 11) and one for the expansion; other choices get a
    reflected Gray code of the needed length.
    """
    properties = [(choice.kernel_size, choice.expansion) for choice in choices]
    if properties == _FAIRNAS_PROPERTIES and all(choice.kind == "inverted_residual" for choice in choices):
        return tuple((*_KERNEL_BITS[kernel_size], int(expansion == 6)) for kernel_size, expansion in properties)
    return reflected_gray_code(len(choices))


@lru_cache(maxsize=16)
def bit_tables(space: SearchSpace) -> tuple[npt.NDArray[np.float32], ...]:
    """Return one table per cell, float32 [num_choices, bits of the cell], of 0 and 1; do not write into them."""
    return tuple(
        np.array(choice_bits(cell.choices), dtype=np.float32).reshape(len(cell.choices), -1) for cell in space.cells
    )


def placed_bit_tables(space: SearchSpace) -> tuple[npt.NDArray[np.float32], ...]:
    """Return each cell's table at its place among all bits, float32 [num_choices, num_bits]; their rows add up."""
    width, start, placed = num_bits(space), 0, []
    for table in bit_tables(space):
        placed.append(np.pad(table, ((0, 0), (start, width - start - table.shape[1]))))
        start += table.shape[1]
    return tuple(placed)


def num_bits(space: SearchSpace) -> int:
    """Length of a feature vector: 57 for the 19 cells of FairNAS."""
    return sum(table.shape[1] for table in bit_tables(space))


def encode(space: SearchSpace, architecture: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the feature vector of an architecture: float32 [num_bits] of 0 and 1.

    Raises:
        InvalidArchitectureError: If it is none of this space.
    """
    checked = space.check(architecture)
    return np.concatenate([table[choice] for table, choice in zip(bit_tables(space), checked, strict=True)])


def bit_distance(space: SearchSpace, first: Sequence[int], second: Sequence[int]) -> int:
    """Number of differing Gray bits of two architectures."""
    return int(np.sum(encode(space, first) != encode(space, second)))
