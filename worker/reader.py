"""The pipeline's Reader port over PostgreSQL: what earlier steps of a search stored."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from app.db import pairs as pairs_db
from app.db import steps as steps_db
from app.db import tables as tables_db
from app.db.engine import transaction
from app.db.models import RoundRow
from app.domain.lookup_table import LookupTable
from app.domain.steps import PairSource
from app.domain.subspace import Subspace
from worker.pipeline.ports import (
    Pair,
    Search,
    StandaloneLabel,
)


class PostgresReader:
    """Implements :class:`worker.pipeline.ports.Reader`. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Read from a database."""
        self._engine = engine

    def subspace(self, search: Search, round_index: int) -> Subspace:
        """Return S_t of a round that has begun."""
        with transaction(self._engine) as session:
            row = session.get_one(RoundRow, (uuid.UUID(search.id), round_index))
            return Subspace.from_dict(search.space, row.subspace)

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        """Return a round's pairs of one source, sorted by code."""
        with transaction(self._engine) as session:
            rows = pairs_db.of_round(session, uuid.UUID(search.id), round_index, source)
            return [Pair(row.code, row.accuracy, row.held_out) for row in rows]

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        """Return the predicted accuracies of some rows of a round's table."""
        with transaction(self._engine) as session:
            header = tables_db.header(session, uuid.UUID(search.id), round_index)
            assert header is not None, "the table is published before anything is re-evaluated"
            return tables_db.predictions(session, header.id, subspace_indices)

    def table(self, search: Search, round_index: int) -> LookupTable:
        """Return the whole table that a round has published last."""
        with transaction(self._engine) as session:
            header = tables_db.header(session, uuid.UUID(search.id), round_index)
            assert header is not None, "the table is published before it is corrected"
            predicted = tables_db.all_predictions(session, header.id)
        return LookupTable.from_predictions(self.subspace(search, round_index), predicted)

    def fit_report(self, search: Search, round_index: int) -> Mapping[str, Any]:
        """Return the figures of a round's fit."""
        with transaction(self._engine) as session:
            return session.get_one(RoundRow, (uuid.UUID(search.id), round_index)).fit_report or {}

    def labels(self, search: Search) -> list[StandaloneLabel]:
        """Return the architectures that the search has trained by themselves so far, sorted by round and code."""
        with transaction(self._engine) as session:
            rows = steps_db.finished(session, uuid.UUID(search.id), "train_standalone")
        labels = [
            StandaloneLabel(
                row.round_index,
                row.payload["retraining"]["code"],
                row.result["standalone_accuracy"],
                tuple(row.payload["predictions"]),
            )
            for row in rows
            if row.result["standalone_accuracy"] is not None
        ]
        return sorted(labels, key=lambda label: (label.round_index, label.code))
