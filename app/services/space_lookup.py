"""The best architectures of a whole search space under limits, from the predictor fitted on all rounds' pairs."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from app.db import lookup as lookup_db
from app.domain.held_out_pairs import HeldOutPairs
from app.domain.lookup_table import Limits
from app.domain.search_space import Architecture
from app.domain.subspace import choices_of, codes_of
from app.domain.whole_space import model_bytes
from app.domain.whole_space.model import SpaceAnswer, WholeSpaceModel
from app.errors import NoTableError, SearchNotFoundError
from app.schemas.lookup import LookupAnswer, LookupItem
from app.schemas.retraining import RoundAgreement
from app.schemas.search import SpacePredictionView
from app.services import device_latencies, standalone_view
from app.services.callers import Caller
from app.services.device_latencies import DeviceLatency
from app.services.fit_figures import TableFigures, interval_in, intervals_of, quality_of
from app.services.limits import AskedLimits, in_units, infeasible
from app.services.lookup_errors import not_ready, nothing_to_ask, only_a_job
from app.services.lookup_items import cost_ranges, latency_of_space, limited_latencies, lookup_items
from app.services.space_cache import SearchedSpace, searched_space


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A prepared model of a whole space with the figures of its fit.

    Attributes:
        model: What predicts.
        figures: What is known of its predictions.
    """

    model: WholeSpaceModel
    figures: TableFigures

    def prediction_of(self, architecture: Architecture) -> SpacePredictionView:
        """Return what it says of one architecture."""
        [predicted] = self.model.predictor.predict([architecture]).tolist()
        [interval] = intervals_of(self.figures.interval, [predicted], self.model.stretch_of([architecture]))
        return SpacePredictionView(predicted_accuracy=predicted, interval=interval)


class _Models:
    """Prepared models by their id: a search that is fitted anew gets another one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.model = lru_cache(maxsize=32)(self._read)
        self.with_latency = lru_cache(maxsize=32)(self._with_latency)
        self._agreement = lru_cache(maxsize=64)(self._read_agreement)

    def _read(self, model_id: int) -> FittedModel:
        with lookup_db.reading(self._engine) as connection:
            stored = lookup_db.read_space_model(connection, model_id)
            report = lookup_db.read_space_report(connection, model_id)
        if stored is None or report is None:
            raise SearchNotFoundError(detail="the search was deleted just now; GET /search lists those there are")
        try:
            model = model_bytes.from_bytes(stored)
        except ValueError as error:
            raise NoTableError(
                detail="the search's predictor of the whole space was stored by another version of the service and "
                f"cannot be read ({error}); its tables answer without scope=space, a new search with scope=space too"
            ) from error
        figures = TableFigures(
            quality_of(report, report.get("held_out_tau")), interval_in(report), _held_out(model, report)
        )
        return FittedModel(_warmed_up(model), figures)

    def _with_latency(self, model_id: int, latency: tuple[DeviceLatency, ...]) -> FittedModel:
        fitted = self.model(model_id)
        costs = {**fitted.model.costs, **{_cost_name(device.name): device.function for device in latency}}
        return FittedModel(_warmed_up(replace(fitted.model, costs=costs)), fitted.figures)

    def agreement(self, search_id: uuid.UUID, model_id: int) -> RoundAgreement | None:
        """Return how a model that knew no true labels ranks what was trained by itself, as of a minute ago."""
        quality = self.model(model_id).figures.quality
        if quality is not None and quality.standalone_tau is not None:
            return None  # the fit's own, over labels that each were left out, says more than a few later networks
        return self._agreement(search_id, model_id, standalone_view.moment(model_id))

    def _read_agreement(self, search_id: uuid.UUID, model_id: int, _moment: int) -> RoundAgreement | None:
        predictor = self.model(model_id).model.predictor

        def predict(codes: list[str]) -> list[float]:
            predicted: list[float] = predictor.predict(choices_of(codes, len(predictor.factor_sizes))).tolist()
            return predicted

        with lookup_db.reading(self._engine) as connection, Session(connection) as session:
            return standalone_view.agreement_of_space(session, search_id, predict)


def _warmed_up(model: WholeSpaceModel) -> WholeSpaceModel:
    """Do what only the first question of a model would have to wait for."""
    model.best({}, 1)
    return model


def _cost_name(device: str) -> str:
    return f"latency_ms on {device}"


@lru_cache(maxsize=8)
def _models(engine: Engine) -> _Models:
    return _Models(engine)


def _held_out(model: WholeSpaceModel, report: Mapping[str, Any]) -> HeldOutPairs:
    """What the fit left out, with the costs of its architectures."""
    pairs: Mapping[str, Any] = report.get("held_out") or {"choices": [], "predicted": [], "accuracy": []}
    choices_NL = np.array(pairs["choices"], dtype=np.int64).reshape(-1, len(model.predictor.factor_sizes))
    multi_adds_N, params_N = (
        np.rint(model.costs[name].of(choices_NL)).astype(np.int64) for name in ("multi_adds", "params")
    )
    return HeldOutPairs(np.array(pairs["predicted"]), np.array(pairs["accuracy"]), multi_adds_N, params_N, choices_NL)


def predicted_by_space(engine: Engine, search_id: uuid.UUID, architecture: Architecture) -> SpacePredictionView | None:
    """Return what the predictor of a search's whole space says of an architecture; None where there is none yet."""
    with lookup_db.reading(engine) as connection:
        found = lookup_db.find_space(connection, search_id, None)
    if found is None or found.model_id is None:
        return None
    try:
        return _models(engine).model(found.model_id).prediction_of(architecture)
    except NoTableError:  # of another version; what else is known of the architecture is not less true
        return None


def look_up_space(
    engine: Engine, caller: Caller, *, search_id: uuid.UUID | None, asked: AskedLimits, limit: int
) -> LookupAnswer:
    """Return the best architectures of the whole space under limits.

    Raises:
        SearchNotFoundError, NoTableError, TableNotReadyError: If there is no such search, or it has not got that far.
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    with lookup_db.reading(engine) as connection:
        found = lookup_db.find_space(connection, search_id, caller.visible_owner)
        if found is None:
            raise nothing_to_ask(search_id)
        if not found.num_rounds:
            raise only_a_job(found.search_id)
        if found.model_id is None:
            missing = "a predictor of the whole space, which its last round fits"
            raise not_ready(engine, caller, found.search_id, missing)
        searched = searched_space(found.search_id, found.space, found.config)
        latency = device_latencies.latencies_on(
            connection, caller, [name for name, _ in asked.latencies], searched.space, found.search_id
        )
        fitted = _models(engine).with_latency(found.model_id, latency)
        best = fitted.model.best(_bounds(asked, latency), limit)
        items = _items(connection, found.search_id, searched, best, fitted, latency, asked)
        agreement = _models(engine).agreement(found.search_id, found.model_id)
    own = Limits(in_units(asked.max_madds), in_units(asked.max_params))
    feasible = cost_ranges(searched.target_costs, latency_of_space(latency))
    return LookupAnswer(
        scope="space",
        search_id=found.search_id,
        round_index=None,
        num_rows=searched.space.size,
        table_digest=None,
        feasible=feasible,
        is_exact=best.is_exact,
        quality=fitted.figures.quality_within(own, limited_latencies(latency, asked), agreement),
        items=items,
        message=None if items else infeasible("search space", feasible, feasible, asked),
    )


def _bounds(asked: AskedLimits, latency: Sequence[DeviceLatency]) -> dict[str, float]:
    """The limits by the names of the model's costs."""
    bounds: dict[str, float | None] = {
        "multi_adds": in_units(asked.max_madds),
        "params": in_units(asked.max_params),
        **{
            _cost_name(device.name): None if max_ms is None else device.function.with_room(max_ms)
            for device, (_, max_ms) in zip(latency, asked.latencies, strict=True)
        },
    }
    return {name: float(value) for name, value in bounds.items() if value is not None}


def _items(
    connection: Connection,
    search_id: uuid.UUID,
    searched: SearchedSpace,
    best: SpaceAnswer,
    fitted: FittedModel,
    latency: Sequence[DeviceLatency],
    asked: AskedLimits,
) -> list[LookupItem]:
    if not len(best.predicted_N):
        return []
    known = lookup_db.accuracies(connection, search_id, codes_of(best.choices_NL))
    costs = [(int(m), int(p)) for m, p in zip(best.costs["multi_adds"], best.costs["params"], strict=True)]
    predicted = best.predicted_N.tolist()
    intervals = intervals_of(fitted.figures.interval, predicted, fitted.model.stretch_of(best.choices_NL))
    return lookup_items(searched.space, best.choices_NL, predicted, costs, known, intervals, latency, asked)
