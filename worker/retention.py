"""What is kept and for how long: outdated searches go, artifacts of deleted ones go, those of the others are measured.

:mod:`app.db.deletion` says why a crash between any two of these orphans nothing.
"""

import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from app.db import deletion as deletion_db
from app.db.engine import transaction
from worker.artifacts import artifact_bytes, remove_artifacts

MAX_DELETED = 20
MAX_REMOVED = 50
MAX_MEASURED = 50
"""Of one sweep each: the reaper has leases to look after as well."""

MEASURE_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retention:
    """Keeps database and artifacts in step.

    Attributes:
        engine: The database.
        artifact_url: fsspec URL of the checkpoints.
        retention_days: Searches that ended longer ago are deleted; None: all are kept.
    """

    engine: Engine
    artifact_url: str
    retention_days: float | None

    def sweep(self) -> None:
        """Delete outdated searches, remove the artifacts of deleted ones, and measure those of the others."""
        if self.retention_days is not None:
            self._delete_outdated(self.retention_days)
        self._remove_artifacts()
        self._measure_artifacts()

    def _delete_outdated(self, retention_days: float) -> None:
        for _ in range(MAX_DELETED):
            with transaction(self.engine) as session:
                search_id = deletion_db.lock_next_outdated(session, retention_days)
                # jobs about it that somebody is changing right now: the next sweep will do
                if search_id is None or deletion_db.busy_jobs(session, search_id):
                    return
                deletion_db.delete_search(session, search_id)
            log.info("search deleted: it ended longer ago than searches are kept", search_id=str(search_id))

    def _remove_artifacts(self) -> None:
        with transaction(self.engine) as session:
            search_ids = deletion_db.due_tombstones(session, MAX_REMOVED)
        for search_id in search_ids:
            is_removed = self._removed(search_id)
            with transaction(self.engine) as session:
                if is_removed:
                    deletion_db.note_artifacts_removed(session, search_id)
                else:
                    deletion_db.note_artifacts_not_removed(session, search_id)

    def _removed(self, search_id: uuid.UUID) -> bool:
        try:
            remove_artifacts(self.artifact_url, search_id)
        except OSError as error:
            log.warning("artifacts not removed; tried again later", search_id=str(search_id), error=str(error))
            return False
        return True

    def _measure_artifacts(self) -> None:
        with transaction(self.engine) as session:
            search_ids = deletion_db.searches_to_measure(session, MAX_MEASURED, MEASURE_INTERVAL_S)
        for search_id in search_ids:
            try:
                num_bytes = artifact_bytes(self.artifact_url, search_id)
            except OSError as error:
                log.warning("artifacts not measured", search_id=str(search_id), error=str(error))
                return
            with transaction(self.engine) as session:
                deletion_db.note_artifact_bytes(session, search_id, num_bytes)
