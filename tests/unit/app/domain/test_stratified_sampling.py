"""Which classes and images a search takes: every class in proportion, and both splits of every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.images import DataSetError
from app.domain.stratified_sampling import chosen_classes, class_counts, stratified_sample, stratified_split


class TestSplit:
    @settings(max_examples=60, deadline=None)
    @given(
        counts=st.lists(st.integers(2, 50), min_size=2, max_size=9),
        fraction=st.floats(0.01, 0.99),
        seed=st.integers(0, 2**31),
    )
    def test_every_class_is_in_both_and_nothing_is_lost(self, counts, fraction, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
        train, validation = stratified_split(labels, fraction, seed)
        assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels)))
        held_out = np.bincount(labels[validation], minlength=len(counts))
        assert (held_out >= 1).all()
        assert (held_out < counts).all()
        assert (np.abs(held_out - fraction * np.array(counts)) <= 1).all()

    def test_the_seed_decides(self):
        labels = np.arange(100) % 5
        assert np.array_equal(stratified_split(labels, 0.1, 1)[1], stratified_split(labels, 0.1, 1)[1])
        assert not np.array_equal(stratified_split(labels, 0.1, 1)[1], stratified_split(labels, 0.1, 2)[1])

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan"), 2.0])
    def test_impossible_fractions(self, fraction):
        with pytest.raises(DataSetError, match="between 0 and 1"):
            stratified_split(np.array([0, 0, 1, 1]), fraction, 0)

    def test_a_single_image_cannot_be_split(self):
        with pytest.raises(DataSetError, match="class 1 has 1 image"):
            stratified_split(np.array([0, 0, 1]), 0.1, 0)


class TestSample:
    @settings(max_examples=200, deadline=None)
    @given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=8), data=st.data())
    def test_a_cap_keeps_the_proportions(self, counts, data):
        labels = np.repeat(np.arange(len(counts)), counts)
        num_images = data.draw(st.integers(2 * len(counts), len(labels)))
        chosen = stratified_sample(labels, num_images, seed=0)
        assert len(np.unique(chosen)) == num_images
        kept = np.bincount(labels[chosen], minlength=len(counts))
        assert (kept <= counts).all()
        # Two of every class, and of the rest each class's share, rounded down or up.
        free = np.array(counts) - 2
        shares = free * (num_images - 2 * len(counts)) / max(1, free.sum())
        assert (np.abs(kept - 2 - shares) < 1 + 1e-9).all()

    def test_a_class_of_two_keeps_both(self):
        labels = np.array([0] * 98 + [1] * 2)
        assert np.bincount(labels[stratified_sample(labels, 50, seed=3)]).tolist() == [48, 2]

    def test_too_few_for_two_of_each_class(self):
        labels = np.arange(30) % 3
        assert np.bincount(labels[stratified_sample(labels, 6, seed=0)]).tolist() == [2, 2, 2]
        with pytest.raises(DataSetError, match="3 classes need num_images of at least 6, not 5"):
            stratified_sample(labels, 5, seed=0)

    def test_the_seed_decides_which(self):
        labels = np.arange(100) % 5
        first, again, other = (stratified_sample(labels, 20, seed) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


class TestClasses:
    def test_all_unless_a_number_is_asked_for(self):
        assert chosen_classes(4, None, seed=0).tolist() == [0, 1, 2, 3]
        assert chosen_classes(4, 4, seed=0).tolist() == [0, 1, 2, 3]

    def test_a_random_subset_in_ascending_order(self):
        subsets = {tuple(chosen_classes(20, 5, seed).tolist()) for seed in range(30)}
        assert len(subsets) > 20
        assert all(list(subset) == sorted(set(subset)) and len(subset) == 5 for subset in subsets)
        assert set().union(*subsets) == set(range(20))

    @pytest.mark.parametrize("num_classes", [-1, 0, 1, 5])
    def test_a_number_that_there_is_not(self, num_classes):
        with pytest.raises(DataSetError, match=f"num_classes must be 2 to 4 for this data set, not {num_classes}"):
            chosen_classes(4, num_classes, seed=0)

    def test_counts_are_by_label(self):
        assert class_counts(np.array([2, 0, 1, 0, 1, 2, 2]), ("a", "b", "c")).tolist() == [2, 2, 3]

    @pytest.mark.parametrize(
        ("labels", "names", "says"),
        [
            ([0, 0, 0], ("only",), "one class only .'only'.; a search needs at least two"),
            ([0, 0, 1], ("many", "rare"), "class 'rare' has 1 image"),
            ([0, 0, 1, 1], ("a", "b", "empty"), "class 'empty' has 0 image"),
        ],
    )
    def test_too_few_of_one_to_train_and_to_evaluate(self, labels, names, says):
        with pytest.raises(DataSetError, match=says):
            class_counts(np.array(labels), names)
