"""Puts together what the service says about searches: their rows, rounds, steps, tables and numbers of pairs."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.db import searches
from app.db.models import LookupTableRow, PairRow, RoundRow, SearchRow, StepRow
from app.domain.multi_adds import Cost
from app.domain.rounds import round_segments
from app.domain.search_config import SearchConfig
from app.domain.search_space import Architecture, InvalidArchitectureError, SearchSpace
from app.domain.standalone_recipe import Retraining
from app.domain.subspace import Subspace
from app.errors import FieldError, InvalidRequestError, RoundNotFoundError
from app.schemas.retraining import RoundAgreement, StandaloneAgreement
from app.schemas.search import (
    BestArchitecture,
    FoundArchitecture,
    Network,
    Networks,
    PairView,
    Range,
    RoundView,
    SearchSummary,
    SearchView,
    StepView,
)
from app.schemas.webhook import WebhookView
from app.services import search_progress, standalone_view, webhooks
from app.services.callers import Caller
from app.services.fit_figures import interval_in, intervals_of, quality_of
from app.services.lifecycle import require
from app.services.search_progress import StepProgress
from app.services.space_cache import SearchedSpace, searched_space


@dataclass(frozen=True)
class SearchRecord:
    """A search with all rows that belong to it, except pairs and lookup rows."""

    search: SearchRow
    steps: Sequence[StepRow]
    rounds: Sequence[RoundRow]
    tables: Sequence[LookupTableRow]
    num_pairs: dict[tuple[int, str], int]
    standalone: StandaloneAgreement | None = None
    webhook: WebhookView | None = None
    standalone_of_rounds: Mapping[int, RoundAgreement] = field(default_factory=dict)
    predicted_best: Mapping[int, float] = field(default_factory=dict)


def read_one(session: Session, search_id: uuid.UUID, caller: Caller) -> SearchView:
    """Return everything about a search.

    Raises:
        SearchNotFoundError: If there is none of that id.
    """
    search = require(session, search_id, caller)
    space = _searched(search).space
    is_search = search.kind == "search"
    rounds, tables = searches.rounds_of(session, [search_id]), searches.tables_of(session, [search_id])
    record = SearchRecord(
        search,
        searches.steps_of(session, [search_id]),
        rounds,
        tables,
        {(c.round_index, c.source): c.num_pairs for c in searches.pair_counts(session, [search_id])},
        standalone_view.agreement(session, search_id, space) if is_search else None,
        webhooks.view(session, search),
        standalone_view.agreement_of_rounds(session, search_id, space) if is_search else {},
        _predicted_best(session, space, rounds, tables),
    )
    return _view(record, dt.datetime.now(dt.UTC))


def read_round(session: Session, search_id: uuid.UUID, round_index: int, caller: Caller) -> RoundView:
    """Return one round of a search.

    Raises:
        SearchNotFoundError: If there is no search of that id.
        RoundNotFoundError: If the search has no such round.
    """
    view = read_one(session, search_id, caller)
    if not view.rounds:
        raise RoundNotFoundError(
            detail=f"{search_id} is no search but a job ({view.kind}), without rounds; use "
            + (f"the id of its search, {view.origin_id}" if view.origin_id else "the id of a search")
        )
    if not 0 <= round_index < len(view.rounds):
        raise RoundNotFoundError(
            detail=f"search {search_id} has the rounds 0 to {len(view.rounds) - 1}, not {round_index}"
        )
    return view.rounds[round_index]


def summaries(session: Session, rows: Sequence[SearchRow]) -> list[SearchSummary]:
    """Return what a list says of each search."""
    steps: dict[uuid.UUID, list[StepRow]] = defaultdict(list)
    for step in searches.steps_of(session, [row.id for row in rows]):
        steps[step.search_id].append(step)
    now = dt.datetime.now(dt.UTC)
    return [_summary(row, steps[row.id], now) for row in rows]


def pair_views(search: SearchRow, pairs: Iterable[PairRow]) -> list[PairView]:
    """Return pairs with the readable form of their architectures."""
    searched = _searched(search)
    return [
        PairView.model_validate(
            {
                "round_index": pair.round_index,
                "source": pair.source,
                "code": pair.code,
                "readable": searched.readable(pair.code),
                "accuracy": pair.accuracy,
                "held_out": pair.held_out,
            }
        )
        for pair in pairs
    ]


def check_code(searched: SearchedSpace, code: str) -> Architecture:
    """Return the architecture of a code in a path.

    Raises:
        InvalidRequestError: If it names none of the space.
    """
    try:
        return searched.space.parse_code(code)
    except InvalidArchitectureError as error:
        raise InvalidRequestError(
            detail=str(error), errors=[FieldError(loc=["path", "code"], msg=str(error))]
        ) from error


def _searched(search: SearchRow) -> SearchedSpace:
    return searched_space(search.id, search.search_space, search.config)


def _step_progress(step: StepRow) -> StepProgress:
    return StepProgress(step.kind, step.round_index, step.state, step.progress, step.started_at, step.finished_at)


def _has_labels(search: SearchRow) -> bool:
    return bool(search.config.get("num_standalone"))


def _summary(search: SearchRow, steps: Sequence[StepRow], now: dt.datetime) -> SearchSummary:
    progress_of_steps = [_step_progress(step) for step in steps]
    fraction = search_progress.progress(
        search.state, search.num_rounds, progress_of_steps, has_labels=_has_labels(search)
    )
    is_running = search.state == "running"
    return SearchSummary.model_validate(
        {
            "id": search.id,
            "kind": search.kind,
            "origin_id": search.origin_id,
            "state": search.state,
            "phase": search_progress.phase(search.state, progress_of_steps),
            "progress": fraction,
            "eta_s": search_progress.eta_s(now, fraction, progress_of_steps) if is_running else None,
            "error": search.error,
            "dataset": search.dataset,
            "search_space": search.search_space["name"],
            "preset": search.preset,
            "num_rounds": search.num_rounds,
            "created_at": search.created_at,
            "started_at": search.started_at,
            "finished_at": search.finished_at,
            "final": _found(_searched(search), search.final_code, search.final_accuracy),
        }
    )


def _view(record: SearchRecord, now: dt.datetime) -> SearchView:
    search, searched = record.search, _searched(record.search)
    config = SearchConfig.model_validate(search.config)
    steps = [_step_progress(step) for step in record.steps]
    rounds = [
        _round(record, round_index, segment)
        for round_index, segment in enumerate(round_segments(config) if search.kind == "search" else ())
    ]
    summary = _summary(search, record.steps, now).model_dump()
    # the best of the last round, with what that round's table had predicted
    final = next((one.best for one in reversed(rounds) if one.best and one.best.code == search.final_code), None)
    if final is not None:
        summary["final"] = final
    return SearchView(
        **summary,
        config=config,
        networks=Networks(
            target=_network(searched.space, 1.0, searched.target_costs),
            proxy=_network(searched.proxy, config.proxy_width, searched.proxy_costs),
        ),
        training_progress=search_progress.stage_progress(
            steps, "train_standalone" if search.kind == "retraining" else "train_supernet", None
        ),
        retraining=_retraining(record),
        standalone=record.standalone,
        steps=[
            StepView(
                kind=step.kind,
                round_index=step.round_index,
                shard_index=step.shard_index,
                progress=step.progress,
                # the whole curve would go out with every event
                detail=step.detail and {name: value for name, value in step.detail.items() if name != "curve"},
            )
            for step in record.steps
            if step.state == "leased"
        ],
        rounds=rounds,
        webhook=record.webhook,
    )


def _retraining(record: SearchRecord) -> Retraining | None:
    """What the only step of a retraining trains."""
    if record.search.kind != "retraining":
        return None
    return Retraining.model_validate(record.steps[0].payload["retraining"])


def _network(space: SearchSpace, width: float, costs: tuple[Cost, Cost]) -> Network:
    smallest, largest = costs
    return Network(
        resolution=space.input_resolution,
        width=width,
        num_classes=space.num_classes,
        multi_adds=Range(min=smallest.multi_adds, max=largest.multi_adds),
        params=Range(min=smallest.params, max=largest.params),
    )


def _found(searched: SearchedSpace, code: str | None, accuracy: float | None) -> FoundArchitecture | None:
    if code is None:
        return None
    cost = searched.cost(code)
    return FoundArchitecture(
        code=code,
        readable=searched.readable(code),
        accuracy=accuracy,
        multi_adds=cost.multi_adds,
        params=cost.params,
    )


def _predicted_best(
    session: Session, space: SearchSpace, rounds: Sequence[RoundRow], tables: Sequence[LookupTableRow]
) -> dict[int, float]:
    """What each round's table says of the round's best architecture."""
    table_ids = {table.round_index: table.id for table in tables}
    predicted = {}
    for row in rounds:
        if row.best_code is None or row.round_index not in table_ids:
            continue
        index = Subspace.from_dict(space, row.subspace).index(space.parse_code(row.best_code))
        found = searches.prediction(session, table_ids[row.round_index], index)
        if found is not None:
            predicted[row.round_index] = found
    return predicted


def _best(searched: SearchedSpace, row: RoundRow, predicted: float | None) -> BestArchitecture | None:
    found = _found(searched, row.best_code, row.best_accuracy)
    if found is None:
        return None
    interval = None
    if predicted is not None:
        [interval] = intervals_of(interval_in(row.fit_report or {}), [predicted])
    return BestArchitecture(**found.model_dump(), predicted_accuracy=predicted, interval=interval)


def _round(record: SearchRecord, round_index: int, segment: tuple[int, ...]) -> RoundView:
    searched = _searched(record.search)
    row = next((row for row in record.rounds if row.round_index == round_index), None)
    table = next((table for table in record.tables if table.round_index == round_index), None)
    steps = [_step_progress(step) for step in record.steps]
    is_finished = row is not None and row.finished_at is not None
    return RoundView.model_validate(
        {
            "round_index": round_index,
            "segment": list(segment),
            "state": search_progress.round_state(round_index, steps, is_finished=is_finished),
            "progress": 1.0
            if is_finished
            else search_progress.round_progress(round_index, steps, has_labels=_has_labels(record.search)),
            "stages": {
                "evaluating_subnetworks": search_progress.stage_progress(steps, "evaluate_shard", round_index),
                "fitting_gcn": search_progress.stage_progress(steps, "fit_gcn", round_index),
                "retraining": search_progress.stage_progress(steps, "train_standalone", round_index),
                "reevaluating": search_progress.stage_progress(steps, "reevaluate_shard", round_index),
            },
            "subspace_size": row and Subspace.from_dict(searched.space, row.subspace).size,
            "num_sampled": record.num_pairs.get((round_index, "sampled"), 0),
            "num_reevaluated": record.num_pairs.get((round_index, "reevaluated"), 0),
            "held_out_tau": row and row.held_out_tau,
            "quality": quality_of(row.fit_report, row.held_out_tau) if row and row.fit_report else None,
            "standalone": record.standalone_of_rounds.get(round_index),
            "fit_report": row and row.fit_report,
            "best": row and _best(searched, row, record.predicted_best.get(round_index)),
            "preserved": (row and row.preserved) or [],
            "table_digest": table and table.digest,
            "num_rows": table and table.num_rows,
            "started_at": row and row.started_at,
            "finished_at": row and row.finished_at,
        }
    )
