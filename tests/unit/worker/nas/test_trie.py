import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.nas.trie import build_trie, shard

architectures = st.lists(st.tuples(*[st.integers(0, 2)] * 4), max_size=60)


@given(architectures)
def test_the_nodes_of_a_trie_are_the_distinct_prefixes(given_architectures):
    distinct = sorted(set(given_architectures))
    root = build_trie(distinct)

    seen, leaves = [], {}

    def visit(node, prefix):
        seen.append(prefix)
        if node.leaf_index >= 0:
            leaves[node.leaf_index] = prefix
        assert [child.choice for child in node.children] == sorted({child.choice for child in node.children})
        for child in node.children:
            assert child.cell_index == len(prefix)
            visit(child, (*prefix, child.choice))

    visit(root, ())
    assert sorted(seen) == sorted({a[:length] for a in distinct for length in range(5)} | {()})
    assert [leaves[i] for i in range(len(distinct))] == distinct
    assert len(list(root)) == len(seen)


@given(architectures, st.integers(1, 20))
def test_shards_are_the_sorted_distinct_architectures_in_pieces(given_architectures, max_size):
    shards = shard(given_architectures, max_size)
    assert [a for piece in shards for a in piece] == sorted(set(given_architectures))
    assert all(1 <= len(piece) <= max_size for piece in shards)


@given(architectures, st.integers(1, 20))
def test_a_subtree_that_fits_is_never_cut(given_architectures, max_size):
    shards = shard(given_architectures, max_size)
    distinct = set(given_architectures)
    for prefix in {a[:length] for a in distinct for length in range(5)}:
        subtree = {a for a in distinct if a[: len(prefix)] == prefix}
        if len(subtree) <= max_size:
            assert sum(1 for piece in shards if subtree & set(piece)) == 1


def test_neighbouring_small_subtrees_fill_a_shard():
    assert [len(piece) for piece in shard([(i, j) for i in range(6) for j in range(2)], 4)] == [4, 4, 4]


def test_an_empty_shard_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        shard([(0,)], 0)
