"""The trie of a set of architectures: equal prefixes are one path, and computed once (no torch here).

A sub-network's activations after cell l depend on its choices up to l only. Sorted architectures that share a prefix
are neighbours; a depth-first walk over their trie evaluates every shared prefix once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from app.domain.search_space import Architecture


@dataclass(eq=False)
class TrieNode:
    """A prefix of one or more architectures, ending with one choice of one cell.

    Attributes:
        cell_index: The cell that the prefix ends with; -1 for the root (the stem alone).
        choice: The choice of that cell; -1 for the root.
        children: The prefixes that are one cell longer, by ascending choice; none for a whole architecture.
        leaf_index: Position of the architecture in the sorted list if the prefix is a whole one, else -1.
    """

    cell_index: int
    choice: int
    children: list["TrieNode"] = field(default_factory=list)
    leaf_index: int = -1

    def __iter__(self) -> Iterator["TrieNode"]:
        """Yield this node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child


def build_trie(architectures: Sequence[Architecture]) -> TrieNode:
    """Return the root of the trie of distinct, sorted architectures of one search space."""
    assert all(a < b for a, b in pairwise(architectures)), "sorted and distinct, please"
    root = TrieNode(-1, -1)
    path = [root]
    previous: Architecture = ()
    for leaf_index, architecture in enumerate(architectures):
        shared = _shared_length(previous, architecture)
        del path[shared + 1 :]
        for cell_index in range(shared, len(architecture)):
            node = TrieNode(cell_index, architecture[cell_index])
            path[-1].children.append(node)
            path.append(node)
        path[-1].leaf_index = leaf_index
        previous = architecture
    return root


def shard(architectures: Iterable[Architecture], max_size: int) -> list[list[Architecture]]:
    """Cut architectures into shards that several workers can evaluate, losing as few shared prefixes as possible.

    A subtree of the trie that fits into a shard is never cut; neighbouring subtrees fill up a shard.

    Args:
        architectures: Architectures of one search space in any order; those given twice count once.
        max_size: Most architectures per shard, at least 1.

    Returns:
        Shards of 1 to ``max_size`` architectures; one after the other they are the sorted distinct architectures.

    Raises:
        ValueError: If ``max_size`` is below 1.
    """
    if max_size < 1:
        raise ValueError(f"a shard must hold at least 1 architecture, not {max_size}")
    return _cut(sorted(set(architectures)), 0, max_size)


def _cut(group: list[Architecture], depth: int, max_size: int) -> list[list[Architecture]]:
    """Cut a sorted group whose members agree on the first ``depth`` cells."""
    if len(group) <= max_size:
        return [group] if group else []
    shards: list[list[Architecture]] = []
    pending: list[Architecture] = []
    for _, members in groupby(group, key=lambda architecture: architecture[depth]):
        subtree = list(members)
        if pending and len(pending) + len(subtree) > max_size:
            shards.append(pending)
            pending = []
        if len(subtree) > max_size:
            shards.extend(_cut(subtree, depth + 1, max_size))
        else:
            pending = pending + subtree
    return [*shards, pending] if pending else shards


def _shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading cells on which two architectures agree."""
    for length, (choice_a, choice_b) in enumerate(zip(a, b, strict=False)):
        if choice_a != choice_b:
            return length
    return min(len(a), len(b))
