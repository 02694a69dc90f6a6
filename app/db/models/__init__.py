"""The tables. PostgreSQL holds the truth about searches, their steps, pairs and lookup tables."""

from app.db.models.access import SCOPES, ApiKeyRow, LoginSessionRow
from app.db.models.base import Base
from app.db.models.belongings import DEVICE_ORIGINS, DeviceRow, UploadRow
from app.db.models.news import DELIVERY_STATES, MILESTONE_KINDS, MilestoneRow, WebhookDeliveryRow
from app.db.models.searches import (
    JOB_KINDS,
    PAIR_SOURCES,
    SEARCH_STATES,
    STEP_KINDS,
    STEP_STATES,
    CounterRow,
    DeletedSearchRow,
    PairRow,
    RoundRow,
    SearchRow,
    StandaloneAccuracyRow,
    StepRow,
)
from app.db.models.tables import LookupRow, LookupTableRow, SpaceModelRow

__all__ = [
    "DELIVERY_STATES",
    "DEVICE_ORIGINS",
    "JOB_KINDS",
    "MILESTONE_KINDS",
    "PAIR_SOURCES",
    "SCOPES",
    "SEARCH_STATES",
    "STEP_KINDS",
    "STEP_STATES",
    "ApiKeyRow",
    "Base",
    "CounterRow",
    "DeletedSearchRow",
    "DeviceRow",
    "LoginSessionRow",
    "LookupRow",
    "LookupTableRow",
    "MilestoneRow",
    "PairRow",
    "RoundRow",
    "SearchRow",
    "SpaceModelRow",
    "StandaloneAccuracyRow",
    "StepRow",
    "UploadRow",
    "WebhookDeliveryRow",
]
