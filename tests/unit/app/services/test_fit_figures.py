"""What stored reports say, of this version and of earlier ones."""

import numpy as np

from app.domain.held_out_pairs import HeldOutPairs
from app.domain.lookup_table import Limits
from app.domain.prediction_interval import calibrate_interval
from app.domain.whole_space.additive_function import AdditiveFunction
from app.services.fit_figures import TableFigures, interval_in, intervals_of, quality_of


def test_a_report_of_an_earlier_version_leaves_nulls() -> None:
    report = {"final_loss": 0.01, "num_fitted": 270, "num_held_out": 30}
    quality = quality_of(report, 0.5)
    assert (quality.predictor, quality.held_out_tau, quality.num_held_out) == (None, 0.5, 30)
    assert (quality.additive_tau, quality.label_noise, quality.standalone_tau) == (None, None, None)
    assert interval_in(report) is None
    assert intervals_of(None, [0.5, 0.6]) == [None, None]


def test_a_report_of_this_version() -> None:
    residual_N = np.array([-0.05, *[0.0] * 17, 0.02])
    interval = calibrate_interval(np.full(19, 0.5), 0.5 + residual_N)
    assert interval is not None
    report = {"predictor": "auto", "additive_tau": 0.4, "label_noise": 0.01, "interval": interval.to_dict()}
    assert quality_of(report, 0.5).model_dump() == {
        "predictor": "auto",
        "held_out_tau": 0.5,
        "num_held_out": None,
        "additive_tau": 0.4,
        "label_noise": 0.01,
        "standalone_tau": None,
        "standalone_tau_interval": None,
        "band_tau": None,
        "num_in_band": None,
    }
    [bounds] = intervals_of(interval_in(report), [0.7])
    assert bounds is not None
    assert [round(value, 6) for value in (bounds.level, bounds.lower, bounds.upper)] == [0.9, 0.65, 0.72]
    [wider] = intervals_of(interval_in(report), [0.7], np.array([2.0]))
    assert wider is not None
    assert [round(value, 6) for value in (wider.lower, wider.upper)] == [0.6, 0.74]


def test_true_labels_of_a_round_say_how_well_the_truth_is_ranked() -> None:
    report = {"standalone": {"num_labels": 8, "tau": 0.5, "tau_interval": [0.1, 0.8]}}
    quality = quality_of(report, 0.7)
    assert (quality.standalone_tau, quality.standalone_tau_interval) == (0.5, (0.1, 0.8))
    too_few = quality_of({"standalone": {"num_labels": 1, "tau": None, "tau_interval": None}}, 0.7)
    assert (too_few.standalone_tau, too_few.standalone_tau_interval) == (None, None)


def test_the_tau_is_of_the_pairs_within_all_limits() -> None:
    number_N = np.arange(4)
    held_out = HeldOutPairs(number_N / 4, number_N / 4, number_N, number_N, number_N[:, None])
    figures = TableFigures(quality_of({}, 0.5), None, held_out)
    latency = AdditiveFunction(1.0, (np.arange(4.0),))
    without = figures.quality_within(Limits(max_multi_adds=2))
    with_latency = figures.quality_within(Limits(max_multi_adds=2), [(latency, 1.5)])
    assert without is not None
    assert with_latency is not None
    assert (without.band_tau, without.num_in_band) == (1.0, 3)
    assert (with_latency.band_tau, with_latency.num_in_band, with_latency.held_out_tau) == (None, 1, 0.5)
