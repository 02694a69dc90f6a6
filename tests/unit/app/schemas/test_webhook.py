"""Webhooks in requests, and the body that receivers are promised."""

import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from app.db.webhooks import ClaimedDelivery
from app.domain.webhook_target import MAX_URL_LENGTH
from app.schemas.webhook import WebhookNews, WebhookRequest
from worker.webhook_courier import body_of

SUMMARY: dict[str, Any] = {
    "id": str(uuid.UUID(int=7)),
    "kind": "retraining",
    "origin_id": str(uuid.UUID(int=8)),
    "state": "failed",
    "error": "the loss became nan in epoch 3; lower the learning rate",
    "dataset": "digits",
    "search_space": "fairnas",
    "preset": "quick",
    "created_at": "2026-01-05T10:00:00+00:00",
    "started_at": None,
    "finished_at": "2026-01-05T10:03:20+00:00",
    "final": None,
}


def test_what_is_sent_is_what_is_promised() -> None:
    body = body_of(ClaimedDelivery(uuid.UUID(int=1), uuid.UUID(int=7), "https://example.org", SUMMARY, attempts=2))
    news = WebhookNews.model_validate_json(body)
    assert (news.id, news.type) == (uuid.UUID(int=1), "retraining.failed")
    assert news.data.error == SUMMARY["error"]
    assert set(SUMMARY) == set(type(news.data).model_fields)


def test_a_url_of_any_length_that_is_stored() -> None:
    longest = "https://example.org/".ljust(MAX_URL_LENGTH, "x")
    assert WebhookRequest(webhook_url=longest).webhook_url == longest
    for url in ("", longest + "x"):
        with pytest.raises(ValidationError, match="webhook_url"):
            WebhookRequest(webhook_url=url)
