"""True labels of a round: a few architectures trained by themselves, which correct the round's predictions (step 2).

After the fit, ``train_standalone`` steps train one architecture each; when all are done, ``correct_predictions`` blends
the nearly additive and the fitted prediction as these labels, with those of earlier rounds, say, and publishes the
table anew.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.domain import rounds
from app.domain.lookup_table import LookupTable
from app.domain.prediction_interval import calibrate_interval
from app.domain.rank_correlation import kendall_interval, kendall_tau
from app.domain.saturation import Saturation
from app.domain.search_space import SearchSpace
from app.domain.standalone_recipe import Retraining, label_retraining
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import prepared_model
from app.domain.whole_space.model import BlendedPredictor
from worker.nas.rank_scale import RankScale
from worker.nas.standalone_blend import FINE_TUNED_SHARE, MIN_LABELS, Labels, StandaloneBlend, fit_standalone_blend
from worker.nas.standalone_choice import choose_standalone
from worker.pipeline.base_predictions import base_predictions, corrected_interval, held_out
from worker.pipeline.fit_quality import LEFT_OUT
from worker.pipeline.ports import (
    FittedSpace,
    FittedTable,
    Networks,
    NewStep,
    Outcome,
    Pair,
    Reader,
    Report,
    Search,
    StandaloneAccuracy,
    StandaloneLabel,
    Step,
    UntrainableError,
)

SAFEST, FITTED = "additive", "predictor"
"""The base predictions: a supernet's artefacts are mostly interactions, of which the (nearly) additive one has few."""

_ROWS = 65_536
_MIN_ERRORS = 8
"""Labels that count as much as the guess that prediction and evaluation are equally wrong."""


def label_steps(
    search: Search,
    round_index: int,
    table: LookupTable,
    pairs: Sequence[Pair],
    labels: Sequence[StandaloneLabel],
    report: Report,
) -> tuple[NewStep, ...]:
    """Return what comes after a round's fit: trainings, or the correction at once where none is left to do.

    The candidates are the sampled architectures, and those at the top of the table, where order matters most.

    Args:
        search: The search.
        round_index: t.
        table: What the predictor says of S_t.
        pairs: The round's sampled pairs.
        labels: Of earlier rounds: no architecture is trained twice.
        report: Called while it is worked out; it may raise to cancel.
    """
    subspace = table.subspace
    index = {subspace.index(search.space.parse_code(pair.code)) for pair in pairs}
    index |= set(table.top(search.config.num_reevaluated).tolist())
    candidates_N = np.array(sorted(index), dtype=np.int64)
    known = {label.code for label in labels}
    unknown = [code not in known for code in subspace.codes(candidates_N)]
    candidates_N = candidates_N[np.array(unknown, dtype=bool)]
    base_NK = base_predictions(search, round_index, table, pairs, lambda: report(1.0, None)).score_SK[candidates_N]
    chosen_N = choose_standalone(
        base_NK,
        subspace.architectures(candidates_N).astype(np.int64),
        search.space.num_choices,
        rounds.num_standalone_of(search.config, round_index),
    )
    steps = tuple(
        NewStep(
            "train_standalone",
            round_index,
            shard_index,
            {
                "retraining": label_retraining(search.config, code).model_dump(mode="json"),
                "predictions": base_NK[row].tolist(),
            },
        )
        for shard_index, (row, code) in enumerate(
            zip(chosen_N.tolist(), subspace.codes(candidates_N[chosen_N]), strict=True)
        )
    )
    return steps or (NewStep("correct_predictions", round_index),)


def train_label(search: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Train an architecture by itself, for a true label of the round.

    One that diverges is no label, and no reason to end the search.
    """
    retraining = Retraining.model_validate(step.payload["retraining"])
    following = NewStep("correct_predictions", step.round_index)
    try:
        retrained = networks.retrain(search, f"{search.id}/standalone-{retraining.code}", retraining, report)
    except UntrainableError as error:
        return Outcome(when_stage_done=following, result={"standalone_accuracy": None, "reason": str(error)})
    return Outcome(
        standalone=StandaloneAccuracy(search.id, retraining, retrained.accuracy, retrained.artifact),
        when_stage_done=following,
        result={"standalone_accuracy": retrained.accuracy, **retrained.figures},
    )


def correct_predictions(search: Search, step: Step, reader: Reader, report: Report) -> FittedTable:
    """Return the round's table with predictions as all true labels so far say, and how well it agrees with them.

    With too few labels ``auto`` is the safest prediction, as it is without any, and the paper's table stays as it is.
    """
    assert step.round_index is not None
    published, pairs = reader.table(search, step.round_index), reader.pairs(search, step.round_index, "sampled")
    labels = reader.labels(search)
    stays = len(labels) < MIN_LABELS and search.config.predictor == "paper"
    known = _labels(search.space, labels)
    blend = _blend(search, known)
    if stays:
        blend = dataclasses.replace(blend, weights_K=np.array([0.0, 1.0]), left_out_N=known.base_NK[:, 1])
    subspace = published.subspace
    base = base_predictions(search, step.round_index, published, pairs, lambda: report(0.0, None))
    corrected_S = published.predicted_accuracy.astype(np.float32)
    for start in range(0, 0 if stays else subspace.size, _ROWS):
        rows_N = np.arange(start, min(start + _ROWS, subspace.size))
        choices_NL = subspace.architectures(rows_N).astype(np.int64)
        corrected_S[rows_N] = base.corrected(blend, base.score_SK[rows_N], choices_NL)
        report(min(1.0, float(rows_N[-1] + 1) / subspace.size), None)
    table = LookupTable.from_predictions(subspace, corrected_S)
    report_of_fit = reader.fit_report(search, step.round_index)
    # the fit's own was around predictions that are no longer these
    interval = corrected_interval(table, pairs, base, blend, report_of_fit.get(LEFT_OUT, {}))
    figures = {
        **{name: value for name, value in report_of_fit.items() if name != LEFT_OUT},
        "held_out_tau_uncorrected": kendall_tau(*held_out(published, pairs)),
        "interval": interval and interval.to_dict(),
        "held_out_coverage": None,
        "standalone": _figures(blend, base.scales[0], labels, step.round_index),
    }
    return FittedTable(table, kendall_tau(*held_out(table, pairs)), figures)


def corrected_space(search: Search, fitted: FittedSpace, labels: Sequence[StandaloneLabel]) -> FittedSpace:
    """Return the predictor of the whole space as the true labels of all rounds say, and what it is worth then.

    With too few labels ``auto`` is its additive part, the safest, and the paper's predictor stays as it is.
    """
    if len(labels) < MIN_LABELS and search.config.predictor == "paper":
        return fitted
    predictor = fitted.model.predictor
    choices_NL = np.array([search.space.parse_code(label.code) for label in labels], dtype=np.int64)
    choices_NL = choices_NL.reshape(-1, search.space.num_cells)
    base_NK = np.stack([predictor.additive.of(choices_NL), predictor.efforts(choices_NL)], axis=1)
    accuracy_N = np.array([label.accuracy for label in labels], dtype=np.float64)
    # one predictor for all rounds, so one level for all labels
    together = Labels(choices_NL, base_NK, np.zeros(len(labels), dtype=np.int64), accuracy_N)
    blend = _blend(search, together)
    gcn_weight = float(blend.weights_K[1]) * predictor.gcn_weight
    tables = tuple(
        table + effects / (1.0 - gcn_weight)
        for table, effects in zip(predictor.additive.tables, blend.effects, strict=True)
    )
    additive = AdditiveFunction(predictor.additive.constant, tables)
    corrected = BlendedPredictor(
        additive, predictor.gcn if gcn_weight else None, gcn_weight, saturation=predictor.saturation
    )
    tau_interval = kendall_interval(blend.left_out_N, blend.observed_N)
    figures = {
        **fitted.report,
        "gcn_weight": round(gcn_weight, 4),
        "held_out_tau_uncorrected": fitted.report["held_out_tau"],
        **_corrected_held_out(fitted.report["held_out"], blend, gcn_weight, predictor.saturation),
        "standalone": {
            "num_labels": len(labels),
            "tau": kendall_tau(blend.left_out_N, blend.observed_N),
            "tau_interval": tau_interval and list(tau_interval),
            "tau_uncorrected": kendall_tau(base_NK[:, 1], blend.observed_N),
            **blend.report((SAFEST, FITTED)),
        },
    }
    model = prepared_model(corrected, fitted.model.costs, search.config.seed)
    return FittedSpace(dataclasses.replace(model, doubt=fitted.model.doubt), figures)


def _blend(search: Search, labels: Labels) -> StandaloneBlend:
    share = FINE_TUNED_SHARE if search.config.standalone_start == "supernet" else 1.0
    return fit_standalone_blend(labels, search.space.num_choices, effect_share=share)


def _corrected_held_out(
    held_out: Mapping[str, Sequence[Any]], blend: StandaloneBlend, gcn_weight: float, saturation: Saturation
) -> dict[str, Any]:
    """The figures of left-out pairs as the labels say: both parts never saw them, nor did the labels."""
    accuracy_K, additive_K = np.array(held_out["accuracy"]), np.array(held_out["additive"])
    graph_K = np.array(held_out.get("graph", additive_K))
    safest_NK = np.stack([(1.0 - gcn_weight) * additive_K + gcn_weight * graph_K] * len(blend.weights_K), axis=1)
    predicted_K = blend.corrected(safest_NK, np.array(held_out["choices"], dtype=np.int64))
    predicted_K = saturation.accuracy(predicted_K)
    interval = calibrate_interval(
        predicted_K, accuracy_K, stretch_N=np.array(held_out["stretch"]), saturation=saturation
    )
    return {
        "held_out_tau": kendall_tau(predicted_K, accuracy_K),
        "interval": interval and interval.to_dict(),
        "held_out": {**held_out, "predicted": predicted_K.tolist()},
    }


def reevaluation_weight(search: Search, round_index: int, reader: Reader, reevaluated: Mapping[str, float]) -> float:
    """Return how much a re-evaluated accuracy counts beside the prediction, from 0 to 1: by their mean squared errors.

    True labels of the round say how large both are. Without, a predictor may say how noisy the evaluation is. The rest
    of what held-out pairs are off is what it cannot express: an artefact of the supernet, which the re-evaluation holds
    as well, or real. Nothing tells, so half of it counts as the error of either. Without either hint both count alike.

    Args:
        search: The search.
        round_index: t.
        reader: What earlier steps stored.
        reevaluated: Re-evaluated accuracies by code.
    """
    figures, pairs = reader.fit_report(search, round_index), reader.pairs(search, round_index, "sampled")
    evaluated = {pair.code: pair.accuracy for pair in pairs} | dict(reevaluated)
    if (labels := figures.get("standalone")) is not None:
        return _weight(*_label_errors(labels, evaluated))
    if (noise := figures.get("label_noise")) is not None:
        held_out = [pair for pair in pairs if pair.held_out]
        subspace = reader.subspace(search, round_index)
        rows = [subspace.index(search.space.parse_code(pair.code)) for pair in held_out]
        predicted = reader.predictions(search, round_index, rows)
        off = float(np.mean([(predicted[row] - p.accuracy) ** 2 for row, p in zip(rows, held_out, strict=True)]))
        unexplained = max(off - noise**2, 0.1 * off)
        return _weight(unexplained / 2, noise**2 + unexplained / 2)
    return _weight(1.0, 1.0)


def _label_errors(labels: Mapping[str, Any], evaluated: Mapping[str, float]) -> tuple[float, float]:
    """Squared errors of prediction and evaluation where z* is known; with few labels, nearly their mean."""
    codes = [code for code in labels["observed"] if code in evaluated]
    if len(codes) < MIN_LABELS:
        return 1.0, 1.0
    truth_N = np.array([labels["observed"][code] for code in codes])
    predicted, sampled = (
        float(np.var(np.array([values[code] for code in codes]) - truth_N))
        for values in (labels["left_out"], evaluated)
    )
    mean, share = (predicted + sampled) / 2, len(codes) / (len(codes) + _MIN_ERRORS)
    return share * predicted + (1 - share) * mean, share * sampled + (1 - share) * mean


def _weight(predicted_error: float, evaluated_error: float) -> float:
    total = predicted_error + evaluated_error
    return predicted_error / total if total > 0 else 0.5


def _figures(
    blend: StandaloneBlend, scale: RankScale, labels: Sequence[StandaloneLabel], round_index: int
) -> dict[str, Any]:
    """What the labels say, as JSON data: of each of the round's what would be predicted without it, beside z*."""
    own = [row for row, label in enumerate(labels) if label.round_index == round_index]
    left_out_N, observed_N = blend.left_out_N[own], blend.observed_N[own]
    # in the order of what was observed, but where equal predictions leave that no scale
    accuracy_N = [labels[row].accuracy for row in own]
    interval = kendall_interval(left_out_N, accuracy_N)
    codes = [labels[row].code for row in own]
    return {
        "num_labels": len(labels),
        "num_labels_of_round": len(own),
        "tau": kendall_tau(left_out_N, accuracy_N),
        "tau_interval": interval and list(interval),
        "tau_uncorrected": kendall_tau([labels[row].predictions[1] for row in own], accuracy_N),
        **blend.report((SAFEST, FITTED)),
        "left_out": dict(zip(codes, scale.values(left_out_N).tolist(), strict=True)),
        "observed": dict(zip(codes, scale.values(observed_N).tolist(), strict=True)),
    }


def _labels(space: SearchSpace, labels: Sequence[StandaloneLabel]) -> Labels:
    return Labels(
        np.array([space.parse_code(label.code) for label in labels], dtype=np.int64).reshape(-1, space.num_cells),
        np.array([label.predictions for label in labels], dtype=np.float64).reshape(-1, 2),
        np.array([label.round_index for label in labels], dtype=np.int64),
        np.array([label.accuracy for label in labels], dtype=np.float64),
    )
