"""Webhooks: who is told when a search ends, and how far that news is."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.webhook_target import MAX_URL_LENGTH
from app.schemas import examples


class WebhookRequest(BaseModel):
    """What every request that starts a search or a job may carry."""

    webhook_url: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description="Told by a signed POST when the search has succeeded, has failed or was cancelled. An https URL.",
    )


class WebhookView(BaseModel):
    """The webhook of a search, and the news of its last end."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.WEBHOOK]})

    url: str
    state: Literal["waiting", "pending", "delivered", "given_up"] = Field(
        description="`waiting`: the search has not ended yet; `pending`: not delivered yet, tried again at "
        "`next_attempt_at`; `given_up`: after the last attempt."
    )
    ended_as: Literal["succeeded", "failed", "cancelled"] | None = Field(description="The end that is told of.")
    attempts: int
    last_status: int | None = Field(description="HTTP status of the last answer; null without one.")
    last_error: str | None = Field(description="Why the last attempt did not count.")
    next_attempt_at: dt.datetime | None
    delivered_at: dt.datetime | None


class EndedArchitecture(BaseModel):
    """The best architecture that an ended search found."""

    code: str
    accuracy: float | None = Field(description="A fraction in [0, 1].")


class EndedSearch(BaseModel):
    """A search, or a job, when it ended."""

    id: uuid.UUID
    kind: str
    origin_id: uuid.UUID | None
    state: Literal["succeeded", "failed", "cancelled"]
    error: str | None
    dataset: str
    search_space: str
    preset: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    final: EndedArchitecture | None


class WebhookNews(BaseModel):
    """The body of a webhook."""

    id: uuid.UUID = Field(description="The same in every attempt to deliver the same news.")
    type: str = Field(description="Kind and end, e.g. `search.succeeded`.")
    data: EndedSearch
