"""The blend that true labels decide: exact against a direct computation, safe with few labels, better with many."""

import dataclasses

import numpy as np
import pytest

from app.domain.rank_correlation import kendall_tau
from worker.nas.standalone_blend import Labels, StandaloneBlend, fit_standalone_blend

NUM_CHOICES = (3, 3, 3, 3, 3)
CHOICES_NL = np.stack(np.unravel_index(np.arange(3**5), NUM_CHOICES), axis=1)


def world(seed: int, *, additive_error: float = 0.0, other_error: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The truth of all architectures, and two predictions: one wrong by choices, one by architecture."""
    rng = np.random.default_rng(seed)
    truth = sum(rng.normal(size=3)[CHOICES_NL[:, i]] for i in range(5)) + 0.5 * rng.normal(size=len(CHOICES_NL))
    truth = truth / truth.std()
    wrong = sum(rng.normal(size=3)[CHOICES_NL[:, i]] for i in range(5))
    safest = truth + additive_error * wrong / wrong.std() + 0.5 * rng.normal(size=len(truth))
    other = truth + other_error * rng.normal(size=len(truth))
    return truth, np.stack([safest, other], axis=1)


def labels_of(truth: np.ndarray, base: np.ndarray, num: int, seed: int = 0, num_rounds: int = 1) -> Labels:
    rows = np.random.default_rng(seed).choice(len(truth), num, replace=False)
    return Labels(CHOICES_NL[rows], base[rows], np.arange(num) % num_rounds, truth[rows])


def tau(blend: StandaloneBlend, base: np.ndarray, truth: np.ndarray) -> float:
    value = kendall_tau(blend.corrected(base, CHOICES_NL), truth)
    assert value is not None
    return value


@pytest.mark.parametrize("num", [0, 1, 3])
def test_without_enough_labels_it_is_the_safest(num: int) -> None:
    truth, base = world(0)
    blend = fit_standalone_blend(labels_of(truth, base, num), NUM_CHOICES)
    assert blend.unchanged_probability == 1.0
    assert np.array_equal(blend.corrected(base, CHOICES_NL), base[:, 0])
    assert len(blend.left_out_N) == len(blend.observed_N) == num


def test_equal_predictions_leave_it_the_safest() -> None:
    truth, base = world(0)
    base[:, 0] = 0.5
    blend = fit_standalone_blend(labels_of(truth, base, 20), NUM_CHOICES)
    assert blend.weights_K.tolist() == [1.0, 0.0]


def loss(labels: Labels, base: np.ndarray, truth: np.ndarray) -> float:
    """Tau that the blend loses against the safest prediction."""
    safest = kendall_tau(base[:, 0], truth)
    assert safest is not None
    return safest - tau(fit_standalone_blend(labels, NUM_CHOICES), base, truth)


@pytest.mark.parametrize("num", [4, 8, 16, 32, 64])
def test_never_much_worse_than_the_safest_where_that_is_right(num: int) -> None:
    """The other prediction is hopeless and no choice is wrong: labels can only mislead."""
    losses = []
    for seed in range(8):
        truth, base = world(seed, other_error=3.0)
        losses.append(loss(labels_of(truth, base, num, seed), base, truth))
    assert np.mean(losses) < 0.015
    assert max(losses) < 0.08


@pytest.mark.parametrize("num", [8, 16, 32, 64])
def test_labels_that_say_nothing_change_little(num: int) -> None:
    """Networks that were hardly trained; unbounded corrections lost 0.2 of tau to them."""
    losses = []
    for seed in range(8):
        truth, base = world(seed, other_error=0.7)
        labels = labels_of(truth, base, num, seed)
        noise = dataclasses.replace(labels, accuracy_N=np.random.default_rng(seed).normal(size=num))
        losses.append(loss(noise, base, truth))
    assert np.mean(losses) < 0.05


def test_labels_move_the_weight_to_the_better_prediction() -> None:
    weights = []
    for num in (4, 16, 64):
        found = []
        for seed in range(6):
            truth, base = world(seed, other_error=0.1)
            found.append(fit_standalone_blend(labels_of(truth, base, num, seed), NUM_CHOICES).weights_K[1])
        weights.append(np.mean(found))
    assert weights[0] < weights[1] < weights[2]
    assert weights[2] > 0.6


def test_wrong_choices_are_found() -> None:
    gains = []
    for seed in range(6):
        truth, base = world(seed, additive_error=1.0, other_error=3.0)
        gains.append(-loss(labels_of(truth, base, 48, seed), base, truth))
    assert np.mean(gains) > 0.1


def test_errors_that_fine_tuned_labels_share_by_choice_do_less_harm() -> None:
    """Labels with errors of choices as large as a supernet's: believed in part they cost less, and still help."""
    losses: dict[float, list[float]] = {0.0: [], 0.5: [], 1.0: []}
    for seed in range(12):
        truth, base = world(seed, additive_error=0.4, other_error=3.0)
        rng = np.random.default_rng(100 + seed)
        bias = sum(rng.normal(size=3)[CHOICES_NL[:, i]] for i in range(5))
        labels = labels_of(truth + 0.4 * bias / bias.std(), base, 32, seed)
        safest = kendall_tau(base[:, 0], truth) or 0.0
        for share, lost in losses.items():
            lost.append(safest - tau(fit_standalone_blend(labels, NUM_CHOICES, effect_share=share), base, truth))
    worst = {share: max(lost) for share, lost in losses.items()}
    assert worst[0.5] < worst[1.0]
    assert np.mean(losses[0.5]) < np.mean(losses[0.0])


def test_left_out_predictions_believe_choices_no_more_than_the_fit_does() -> None:
    truth, base = world(2, additive_error=1.0, other_error=3.0)
    labels = labels_of(truth, base, 48, 2)
    half, whole = (fit_standalone_blend(labels, NUM_CHOICES, effect_share=share) for share in (0.5, 1.0))
    predicted = []
    for row in range(48):
        kept = np.arange(48) != row
        others = Labels(labels.choices_NL[kept], labels.base_NK[kept], labels.round_N[kept], labels.accuracy_N[kept])
        without = fit_standalone_blend(others, NUM_CHOICES, effect_share=0.5)
        predicted.append(without.corrected(labels.base_NK[[row]], labels.choices_NL[[row]])[0])
    off, off_of_whole = (np.std(blend.left_out_N - np.array(predicted)) for blend in (half, whole))
    assert off < 0.5 * off_of_whole


def test_left_out_predictions_are_those_of_fits_without_the_label() -> None:
    """To the rank scale, which a label belongs to as well: the closed form equals fitting again."""
    truth, base = world(1, other_error=0.2)
    labels = labels_of(truth, base, 24, 1)
    # labels whose ranks are what the safest prediction says keep their scale when one is taken away
    ranked = dataclasses.replace(labels, accuracy_N=labels.base_NK[:, 0] + 0.0)
    whole = fit_standalone_blend(ranked, NUM_CHOICES)
    kept = np.arange(24) != 7
    parts = (ranked.choices_NL[kept], ranked.base_NK[kept], ranked.round_N[kept], ranked.accuracy_N[kept])
    without = fit_standalone_blend(Labels(*parts), NUM_CHOICES)
    predicted = without.corrected(ranked.base_NK[7:8], ranked.choices_NL[7:8])[0]
    assert whole.left_out_N[7] == pytest.approx(predicted, abs=0.15)


def test_left_out_labels_do_not_flatter() -> None:
    """Random labels: the fit finds something in them, and predictions without the label know nothing of it.

    Left-out predictions of nothing lean against their labels, as their levels do.
    """
    left_out, inside = [], []
    for seed in range(20):
        _, base = world(seed)
        rng = np.random.default_rng(seed)
        labels = labels_of(rng.normal(size=len(base)), base, 32, seed)
        blend = fit_standalone_blend(labels, NUM_CHOICES)
        left_out.append(kendall_tau(blend.left_out_N, labels.accuracy_N) or 0.0)
        corrected_N = blend.corrected(labels.base_NK, labels.choices_NL)
        inside.append(kendall_tau(corrected_N, labels.accuracy_N) or 0.0)
    assert np.mean(left_out) < 0.0 < np.mean(inside)


def test_levels_of_rounds_do_not_matter() -> None:
    """Accuracies of different rounds need not be comparable."""
    truth, base = world(2, other_error=0.2)
    labels = labels_of(truth, base, 40, num_rounds=2)
    lifted = dataclasses.replace(labels, accuracy_N=labels.accuracy_N + 10.0 * labels.round_N)
    first, second = (fit_standalone_blend(each, NUM_CHOICES) for each in (labels, lifted))
    assert np.array_equal(first.weights_K, second.weights_K)
    assert all(np.array_equal(a, b) for a, b in zip(first.effects, second.effects, strict=True))


def test_one_broken_network_decides_nothing() -> None:
    truth, base = world(3, other_error=0.2)
    labels = labels_of(truth, base, 32, 3)
    worst = int(labels.accuracy_N.argmin())
    broken = labels.accuracy_N.copy()
    broken[worst] = -100.0
    first = fit_standalone_blend(labels, NUM_CHOICES)
    second = fit_standalone_blend(dataclasses.replace(labels, accuracy_N=broken), NUM_CHOICES)
    assert np.array_equal(first.weights_K, second.weights_K)


def test_labels_against_all_predictions_do_not_turn_them() -> None:
    truth, base = world(4)
    blend = fit_standalone_blend(labels_of(-truth, base, 8), NUM_CHOICES)
    assert tau(blend, base, truth) > 0


def test_any_number_of_predictions() -> None:
    truth, base = world(5, other_error=0.1)
    more = np.concatenate([base, base[:, :1], base[:, 1:] + 0.01], axis=1)
    blend = fit_standalone_blend(labels_of(truth, more, 64), NUM_CHOICES)
    assert blend.weights_K.shape == (4,)
    assert blend.weights_K.min() >= 0
    assert blend.weights_K.sum() == pytest.approx(1.0)
    alone = fit_standalone_blend(labels_of(truth, base[:, :1], 64), NUM_CHOICES)
    assert alone.weights_K.tolist() == [1.0]


def test_what_labels_cannot_be() -> None:
    truth, base = world(0)
    labels = labels_of(truth, base, 5)
    with pytest.raises(ValueError, match="one row of everything"):
        dataclasses.replace(labels, accuracy_N=labels.accuracy_N[:4])
    with pytest.raises(ValueError, match="finite"):
        dataclasses.replace(labels, accuracy_N=np.array([0.1, 0.2, np.nan, 0.3, 0.4]))
