"""True labels of a round: which are trained, how they correct the table, and that nothing changes without them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.domain.rank_correlation import kendall_tau
from app.domain.rounds import num_standalone_of
from worker.pipeline.ports import FittedSpace, NewStep, Step, UntrainableError
from worker.pipeline.search import run_step
from worker.pipeline.standalone_labels import corrected_space, reevaluation_weight

if TYPE_CHECKING:
    from tests.unit.worker.pipeline.conftest import Scheduler

Schedule = Callable[..., "Scheduler"]


def is_kind(kind: str) -> Callable[[NewStep], bool]:
    return lambda step: step.kind == kind


def true_tau(scheduler: "Scheduler", true: Callable[[Any], float]) -> float:
    table = scheduler.store.fitted[0].table
    truth = [true(tuple(row)) for row in table.subspace.architectures(np.arange(table.num_rows)).tolist()]
    tau = kendall_tau(table.predicted_accuracy, truth)
    assert tau is not None
    return tau


@pytest.fixture
def true_standalone() -> Callable[[Any], float]:
    from tests.unit.worker.pipeline.conftest import true_accuracy_of

    return true_accuracy_of


class TestSteps:
    def test_labels_come_between_fit_and_reevaluation(self, schedule: Schedule) -> None:
        kinds = [(step.kind, step.round_index) for step in schedule(num_standalone=9).run().ran]
        of_first = [kind for kind, round_index in kinds if round_index == 0]
        assert of_first[3:10] == ["fit_gcn", *["train_standalone"] * 5, "correct_predictions"]
        assert of_first[10:] == ["reevaluate_shard", "advance"]
        assert [kind for kind, round_index in kinds if round_index == 1].count("train_standalone") == 4

    def test_none_are_as_if_there_were_no_such_thing(self, schedule: Schedule) -> None:
        scheduler = schedule().run()
        assert not scheduler.networks.retrained
        assert {step.kind for step in scheduler.ran} == {
            "train_supernet",
            "evaluate_shard",
            "fit_gcn",
            "reevaluate_shard",
            "fit_space",
            "advance",
        }

    def test_fewer_labels_than_rounds(self, schedule: Schedule) -> None:
        """A round that trains none is corrected by those of earlier rounds."""
        scheduler = schedule(num_standalone=1).run()
        kinds = [step.kind for step in scheduler.ran if step.round_index == 1]
        assert "train_standalone" not in kinds
        assert kinds.count("correct_predictions") == 1
        assert scheduler.store.done

    def test_each_is_a_network_of_its_own(self, schedule: Schedule) -> None:
        scheduler = schedule(num_standalone=8, standalone_start="supernet", standalone_epochs=3).run()
        retrained = scheduler.networks.retrained
        assert len({retraining.code for _, retraining in retrained}) == 8, "none twice, also over rounds"
        for place, retraining in retrained:
            assert place == f"search/standalone-{retraining.code}"
            assert (retraining.from_supernet, retraining.recipe.epochs, retraining.network) == (True, 3, "proxy")
            assert retraining.seed == scheduler.search.config.seed

    def test_candidates_are_sampled_or_at_the_top(self, schedule: Schedule) -> None:
        scheduler = schedule(num_standalone=20).run(is_kind("train_standalone"))
        table = scheduler.store.fitted[0].table
        known = {pair.code for pair in scheduler.store.pairs(scheduler.search, 0, "sampled")}
        known |= set(table.subspace.codes(table.top(6)))
        chosen = [step.payload["retraining"]["code"] for step in scheduler.ready]
        assert len(chosen) == num_standalone_of(scheduler.search.config, 0) == 10
        assert set(chosen) <= known

    @pytest.mark.parametrize("shard_size", [1, 5, 100])
    def test_order_and_shards_change_nothing(self, schedule: Schedule, shard_size: int) -> None:
        first, other = schedule(num_standalone=9), schedule(num_standalone=9, shard_size=shard_size)
        rng = np.random.default_rng(shard_size)
        other.pick = lambda num_ready: int(rng.integers(num_ready))
        first.run()
        other.run()
        assert [f.table.digest() for f in first.store.fitted.values()] == [
            f.table.digest() for f in other.store.fitted.values()
        ]
        assert first.store.closed == other.store.closed
        assert [f.report for f in first.store.fitted.values()] == [f.report for f in other.store.fitted.values()]

    def test_a_step_can_run_again_and_gives_the_same(self, schedule: Schedule) -> None:
        scheduler = schedule(num_standalone=9).run(is_kind("correct_predictions"))
        new = scheduler.ready[0]
        step = Step(0, new.kind, new.round_index, new.shard_index, new.payload, attempt=1)
        outcomes = [
            run_step(scheduler.search, step, scheduler.networks, scheduler.store, scheduler.report, shard_size=8)
            for _ in range(2)
        ]
        tables = [outcome.fitted.table.digest() for outcome in outcomes if outcome.fitted]
        assert tables[0] == tables[1]
        assert outcomes[0].next_steps == outcomes[1].next_steps

    def test_one_that_diverges_is_no_label(self, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
        scheduler = schedule(num_standalone=9)
        retrain = scheduler.networks.retrain

        def diverging(search: Any, place: str, retraining: Any, report: Any) -> Any:
            if scheduler.ran[-1].kind == "fit_gcn":
                raise UntrainableError("the loss became nan in epoch 1")
            return retrain(search, place, retraining, report)

        monkeypatch.setattr(scheduler.networks, "retrain", diverging)
        scheduler.run()
        assert scheduler.store.done
        assert len(scheduler.store.labels(scheduler.search)) == 9 - 2
        assert scheduler.store.fitted[0].report["standalone"]["num_labels"] == 4


class TestCorrection:
    def test_the_table_ranks_the_truth_better(
        self, schedule: Schedule, true_standalone: Callable[[Any], float]
    ) -> None:
        before = schedule(num_standalone=24).run(is_kind("train_standalone"))
        uncorrected = true_tau(before, true_standalone)
        after = before.run(is_kind("reevaluate_shard"))
        assert true_tau(after, true_standalone) > uncorrected + 0.05

    def test_choices_move_half_as_far_by_fine_tuned_labels(self, schedule: Schedule) -> None:
        """The same accuracies, but of networks that may have kept the supernet's errors."""
        effects = {
            start: schedule(num_standalone=40, standalone_start=start).run().store.fitted[0].report["standalone"]
            for start in ("scratch", "supernet")
        }
        scratch, supernet = (effects[start]["largest_effect"] for start in ("scratch", "supernet"))
        assert supernet == pytest.approx(scratch / 2, rel=0.01)
        assert scratch > 0

    def test_the_top_of_the_corrected_table_is_evaluated_again(self, schedule: Schedule) -> None:
        scheduler = schedule(num_standalone=24, shard_size=100).run(is_kind("reevaluate_shard"))
        table = scheduler.store.fitted[0].table
        (step,) = scheduler.ready
        assert sorted(step.payload["codes"]) == sorted(table.subspace.codes(table.top(6)))

    def test_the_report_judges_by_left_out_labels(self, schedule: Schedule) -> None:
        scheduler = schedule(num_standalone=20).run(is_kind("reevaluate_shard"))
        report = scheduler.store.fitted[0].report
        figures = report["standalone"]
        assert report["num_fitted"] == 15, "the fit's own figures stay"
        assert (figures["num_labels"], figures["num_labels_of_round"]) == (10, 10)
        codes = list(figures["observed"])
        truth = {label.code: label.accuracy for label in scheduler.store.labels(scheduler.search)}
        assert kendall_tau(list(figures["observed"].values()), [truth[code] for code in codes]) == pytest.approx(1.0)
        left_out = [figures["left_out"][code] for code in codes]
        assert figures["tau"] == kendall_tau(left_out, [truth[code] for code in codes])
        lower, upper = figures["tau_interval"]
        assert lower <= figures["tau"] <= upper
        assert sum(figures["weights"].values()) == pytest.approx(1.0)

    def test_the_whole_space_is_corrected_as_well(
        self, schedule: Schedule, true_standalone: Callable[[Any], float]
    ) -> None:
        taus = []
        for num_standalone in (0, 40):
            space = schedule(num_standalone=num_standalone).run().store.space
            assert space is not None
            choices_NL = np.stack(np.unravel_index(np.arange(729), (3,) * 6), axis=1)
            truth = [true_standalone(tuple(row)) for row in choices_NL.tolist()]
            taus.append(kendall_tau(space.model.predictor.predict(choices_NL), truth))
        assert taus[0] is not None
        assert taus[1] is not None
        assert taus[1] > taus[0] + 0.1

    def test_the_report_of_the_whole_space_is_that_of_the_corrected_predictor(
        self, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Left-out predictions are corrected as the model is: by the same effects of the same choices."""
        before: list[FittedSpace] = []

        def noted(search: Any, fitted: FittedSpace, labels: Any) -> FittedSpace:
            before.append(fitted)
            return corrected_space(search, fitted, labels)

        monkeypatch.setattr("worker.pipeline.standalone_labels.corrected_space", noted)
        space = schedule(num_standalone=40).run().store.space
        assert space is not None
        held_out, predictor = space.report["held_out"], space.model.predictor
        effect_K = predictor.additive.of(held_out["choices"]) - before[0].model.predictor.additive.of(
            held_out["choices"]
        )
        assert np.std(effect_K) > 0.01
        expected_K = predictor.saturation.accuracy(np.array(held_out["additive"]) + effect_K)
        assert held_out["predicted"] == pytest.approx(expected_K, abs=1e-12)
        assert space.report["held_out_tau"] == kendall_tau(held_out["predicted"], held_out["accuracy"])
        assert space.report["interval"]["level"] == 0.9
        assert space.report["gcn_weight"] == 0.0
        lower, upper = space.report["standalone"]["tau_interval"]
        assert lower <= space.report["standalone"]["tau"] <= upper

    @pytest.mark.parametrize(("predictor", "weights"), [("paper", [0.0, 1.0]), ("auto", [1.0, 0.0])])
    def test_too_few_labels_leave_the_safest_or_the_papers_table(
        self, schedule: Schedule, predictor: str, weights: list[float]
    ) -> None:
        scheduler = schedule(num_standalone=2, predictor=predictor).run(is_kind("correct_predictions"))
        before = scheduler.store.fitted[0].table.digest()
        scheduler.run(is_kind("reevaluate_shard"))
        figures = scheduler.store.fitted[0].report["standalone"]
        assert figures["num_labels"] == 1
        assert list(figures["weights"].values()) == weights
        assert (scheduler.store.fitted[0].table.digest() == before) == (predictor == "paper")


class TestWeighing:
    def weight(self, scheduler: "Scheduler", report: dict[str, Any], evaluated: dict[str, float]) -> float:
        scheduler.run(is_kind("advance"))
        scheduler.store.fit_report = lambda search, round_index: report  # type: ignore[method-assign]
        return reevaluation_weight(scheduler.search, 0, scheduler.store, evaluated)

    @pytest.mark.parametrize(("off", "low", "high"), [(0.001, 0.8, 1.0), (0.5, 0.0, 0.3)])
    def test_by_the_errors_that_labels_show(self, schedule: Schedule, off: float, low: float, high: float) -> None:
        """Predictions are off by up to 0.05, re-evaluations by a little or by a lot."""
        codes = [f"{i:06}" for i in range(24)]
        observed = {code: 0.5 + 0.01 * i for i, code in enumerate(codes)}
        left_out = {code: value + 0.05 * (-1) ** i for i, (code, value) in enumerate(observed.items())}
        evaluated = {code: value + off * (-1) ** (i // 2) for i, (code, value) in enumerate(observed.items())}
        weight = self.weight(schedule(), {"standalone": {"observed": observed, "left_out": left_out}}, evaluated)
        assert low < weight < high

    def test_few_labels_say_nothing(self, schedule: Schedule) -> None:
        report = {"standalone": {"observed": {"0": 0.5, "1": 0.6}, "left_out": {"0": 0.9, "1": 0.1}}}
        assert self.weight(schedule(), report, {"0": 0.5, "1": 0.6}) == 0.5

    def test_by_the_noise_that_the_predictor_found(self, schedule: Schedule) -> None:
        noisy, exact = (self.weight(schedule(), {"label_noise": noise}, {}) for noise in (0.2, 1e-4))
        assert noisy < 0.1
        assert 0.4 < exact < 0.5, "what an exact evaluation shows beside the prediction may be the supernet's artefact"

    def test_without_any_hint_both_count_alike(self, schedule: Schedule) -> None:
        assert self.weight(schedule(), {}, {}) == 0.5

    def test_the_best_is_chosen_by_both(self, schedule: Schedule) -> None:
        scheduler = schedule(preserve_by="weighted").run(is_kind("advance"))
        store, search = scheduler.store, scheduler.search
        pairs = store.pairs(search, 0, "reevaluated")
        rows = {p.code: store.subspaces[0].index(search.space.parse_code(p.code)) for p in pairs}
        predicted = store.predictions(search, 0, list(rows.values()))
        best = max(pairs, key=lambda p: 0.5 * p.accuracy + 0.5 * predicted[rows[p.code]])
        outcome = scheduler.run_one()
        assert outcome.closed_round is not None
        assert (outcome.closed_round.best_code, outcome.result["reevaluation_weight"]) == (best.code, 0.5)
        assert outcome.closed_round.best_accuracy == best.accuracy
