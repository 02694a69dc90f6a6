"""What the service says about architectures trained by themselves, and how far the search agrees with them."""

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from sqlalchemy.orm import Session

from app.db import searches, standalone, tables
from app.db.models import StandaloneAccuracyRow
from app.domain.rank_correlation import kendall_tau
from app.domain.search_space import SearchSpace
from app.domain.subspace import Subspace
from app.schemas.retraining import StandaloneAgreement, StandaloneView

MIN_ARCHITECTURES = 3
"""Fewer say nothing about a ranking."""


def of_architecture(session: Session, search_id: uuid.UUID, code: str) -> list[StandaloneView]:
    """Return an architecture's stand-alone accuracies, the latest first."""
    return [
        StandaloneView.model_validate(row, from_attributes=True)
        for row in standalone.of_architecture(session, search_id, code)
    ]


def agreement(session: Session, search_id: uuid.UUID, space: SearchSpace) -> StandaloneAgreement | None:
    """Return how predictions and sampled accuracies rank the architectures that were trained by themselves.

    Accuracies of one architecture with several seeds are averaged.
    """
    rows = _largest_group(standalone.of_search(session, search_id))
    accuracies: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        accuracies[row.code].append(row.accuracy)
    if len(accuracies) < MIN_ARCHITECTURES:
        return None
    truth = {code: fmean(values) for code, values in accuracies.items()}
    predicted = _predicted(session, search_id, space, list(truth))
    sampled = {pair.code: pair.accuracy for pair in searches.pairs_of_architectures(session, search_id, list(truth))}
    return StandaloneAgreement(
        num_architectures=len(truth),
        recipe=rows[-1].recipe,
        network=rows[-1].network,
        from_supernet=rows[-1].from_supernet,
        epochs=rows[-1].epochs,
        num_predicted=len(predicted),
        tau_predicted=_tau(predicted, truth),
        num_sampled=len(sampled),
        tau_sampled=_tau(sampled, truth),
    )


def _largest_group(rows: Sequence[StandaloneAccuracyRow]) -> list[StandaloneAccuracyRow]:
    """The rows trained in the way that most architectures were, whatever their seeds; of equals, the latest way."""
    groups: dict[str, list[StandaloneAccuracyRow]] = defaultdict(list)
    for row in rows:
        way = {name: value for name, value in row.retraining.items() if name not in ("code", "seed")}
        groups[json.dumps(way, sort_keys=True)].append(row)
    ranked = sorted(groups.values(), key=lambda group: (len({row.code for row in group}), group[-1].finished_at))
    return ranked[-1] if ranked else []


def _predicted(session: Session, search_id: uuid.UUID, space: SearchSpace, codes: list[str]) -> dict[str, float]:
    """What the latest table that holds an architecture predicts for it."""
    subspaces = {row.round_index: row.subspace for row in searches.rounds_of(session, [search_id])}
    predicted: dict[str, float] = {}
    for table in searches.tables_of(session, [search_id]):
        subspace = Subspace.from_dict(space, subspaces[table.round_index])
        index_of = {code: index for code in codes if (index := _index(subspace, code)) is not None}
        rows = tables.predictions(session, table.id, list(index_of.values()))
        predicted |= {code: rows[index] for code, index in index_of.items()}
    return predicted


def _index(subspace: Subspace, code: str) -> int | None:
    try:
        return subspace.index(subspace.space.parse_code(code))
    except ValueError:  # not in this round's subspace
        return None


def _tau(values: dict[str, float], truth: dict[str, float]) -> float | None:
    if len(values) < MIN_ARCHITECTURES:
        return None
    return kendall_tau([values[code] for code in values], [truth[code] for code in values])
