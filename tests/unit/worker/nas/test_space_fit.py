"""The whole space's predictor: fitted on pairs, weighed, and ready for questions under limits."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from app.domain.multi_adds import count
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import preset
from app.domain.whole_space.model import WholeSpaceModel
from app.domain.whole_space.model_bytes import from_bytes, to_bytes
from worker.nas.gcn_training import GCNTrainingConfig
from worker.nas.space_fit import MAX_GCN_WEIGHT, blend_weight, fit_space


class Fitted(NamedTuple):
    """A fitted model as the API reads it, with the figures of its fit."""

    model: WholeSpaceModel
    report: dict[str, Any]


SPACE = preset("fairnas")
CONFIG = GCNTrainingConfig(hidden_sizes=(16, 16), epochs=60)


def pairs(num=150, noise=0.001):
    """Architectures of the whole space whose accuracy grows with kernel and expansion."""
    rng = np.random.default_rng(0)
    choices_NL = np.unique(rng.integers(0, 6, (num, 19)), axis=0)
    accuracy_N = 0.6 + 0.002 * (choices_NL % 3).sum(1) + 0.005 * (choices_NL // 3).sum(1)
    return choices_NL, accuracy_N + noise * rng.normal(size=len(choices_NL))


@pytest.fixture(scope="module")
def fitted():
    model, report = fit_space(SPACE, *pairs(), CONFIG, seed=0)
    return Fitted(from_bytes(to_bytes(model)), report)


@pytest.mark.parametrize("max_madds", [248, 250, 300, 400, 557.41])
def test_every_limit_from_the_smallest_architecture_on_has_an_answer(fitted, max_madds):
    answer = fitted.model.best({"multi_adds": max_madds * 1e6}, 10)
    assert len(answer.predicted_N) == 10
    for row, architecture in enumerate(answer.choices_NL.tolist()):
        cost = count(SPACE, architecture)
        assert (cost.multi_adds, cost.params) == (answer.costs["multi_adds"][row], answer.costs["params"][row])
        assert cost.multi_adds <= max_madds * 1e6
    assert (np.diff(answer.predicted_N) <= 0).all()


def test_nothing_is_below_the_smallest(fitted):
    assert len(fitted.model.best({"multi_adds": 247.1e6}, 10).predicted_N) == 0


def test_more_is_better_where_the_pairs_say_so(fitted):
    best = fitted.model.best({}, 1).choices_NL[0]
    assert (best == 5).mean() > 0.8
    assert fitted.report["additive_tau"] > 0.8
    assert fitted.report["num_pairs"] == len(pairs()[0])


def test_the_same_seed_gives_the_same_bytes(fitted):
    assert to_bytes(fit_space(SPACE, *pairs(), CONFIG, seed=0)[0]) == to_bytes(fitted.model)


def test_the_order_of_the_pairs_does_not_matter_to_the_additive_part(fitted):
    choices_NL, accuracy_N = pairs()
    model, _ = fit_space(SPACE, choices_NL[::-1], accuracy_N[::-1], CONFIG, seed=0)
    expected = fitted.model.predictor.additive.of(choices_NL)
    assert model.predictor.additive.of(choices_NL) == pytest.approx(expected, abs=1e-9)


def test_a_cancellation_passes_through():
    def stop(_share, _details):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_space(SPACE, *pairs(), CONFIG, seed=0, on_progress=stop)


class TestBlendWeight:
    truth_N = np.linspace(0.5, 0.9, 50)

    def test_a_gcn_that_is_right_gets_no_more_than_half(self):
        assert blend_weight(self.truth_N + 0.1, self.truth_N, self.truth_N) == MAX_GCN_WEIGHT

    def test_a_gcn_that_errs_the_other_way_gets_the_share_that_cancels(self):
        assert blend_weight(self.truth_N - 0.1, self.truth_N + 0.3, self.truth_N) == pytest.approx(0.25)

    def test_a_gcn_that_is_worse_in_the_same_direction_gets_nothing(self):
        assert blend_weight(self.truth_N + 0.1, self.truth_N + 0.2, self.truth_N) == 0

    def test_equal_parts(self):
        assert blend_weight(self.truth_N, self.truth_N, self.truth_N) == 0


def test_it_says_how_sure_it_is(fitted):
    report = fitted.report
    assert report["num_held_out"] == len(report["held_out"]["accuracy"]) == round(0.1 * report["num_pairs"])
    assert report["held_out_tau"] == kendall_tau(report["held_out"]["predicted"], report["held_out"]["accuracy"])
    assert report["label_noise"] == pytest.approx(0.001, rel=0.6), "the noise is a tenth of a point"
    assert max(report["interval"]["upper"]) - min(report["interval"]["lower"]) < 0.08


def test_accuracies_that_saturate_near_one_are_predicted_below_one():
    choices_NL, accuracy_N = pairs(noise=0.0)
    effort_N = 12 * (accuracy_N - accuracy_N.min())
    saturated_N = 1.0 - 0.3 * np.exp(-effort_N) + np.random.default_rng(1).normal(0, 0.001, len(effort_N))
    model, report = fit_space(SPACE, choices_NL, saturated_N, CONFIG, seed=0)
    assert report["ceiling"] == pytest.approx(1.0, abs=0.05)
    assert report["label_noise"] == pytest.approx(0.001, rel=0.7)
    everything = np.array([[0] * 19, [5] * 19])
    worst, best = model.predictor.predict(everything)
    assert 0.0 < worst < saturated_N.min() + 0.05
    assert saturated_N.max() - 0.01 < best < 1.0
    read = from_bytes(to_bytes(model)).predictor.predict(everything)
    np.testing.assert_array_equal(read, [worst, best])


def test_auto_is_additive_with_a_link_and_exact(fitted):
    predictor = fitted.model.predictor
    assert (predictor.is_additive, predictor.gcn, fitted.report["gcn_weight"]) == (True, None, 0.0)
    assert predictor.link is not None
    assert fitted.model.best({"multi_adds": 300e6}, 10).is_exact


@pytest.mark.parametrize("how", [{"predictor": "paper"}, {"labels_follow": True}])
def test_the_paper_and_true_labels_to_come_have_a_gcn(how):
    model, report = fit_space(SPACE, *pairs(), CONFIG, seed=0, **how)
    assert "gcn_tau" in report
    assert model.predictor.link is None
    held_out = report["held_out"]
    weight = model.predictor.gcn_weight
    blend = (1 - weight) * np.array(held_out["additive"]) + weight * np.array(held_out["graph"])
    assert blend == pytest.approx(held_out["predicted"])
