"""Seeds derived from (search seed, round, purpose), so that no step depends on what ran before it."""

import hashlib

import numpy as np


def derive_seed(seed: int, round_index: int | None, purpose: str) -> int:
    """Return a 63-bit seed for one purpose of one round.

    Args:
        seed: The search's seed.
        round_index: The round t, or None for what belongs to no round (step 0).
        purpose: What the randomness is for, e.g. ``"sampling"``.

    Returns:
        The same non-negative integer below 2**63 for the same arguments, on every machine.
    """
    text = f"{seed}|{'-' if round_index is None else round_index}|{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, round_index: int | None, purpose: str) -> np.random.Generator:
    """Return a numpy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, round_index, purpose))
