"""Whether a search may have a webhook, and what is said of its delivery. The reaper delivers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy.orm import Session

from app.db import webhooks as webhooks_db
from app.db.models import SearchRow
from app.domain.webhook_target import ForbiddenTargetError, WebhookTarget
from app.errors import FieldError
from app.schemas.webhook import WebhookView
from app.settings import Settings


@dataclass(frozen=True)
class WebhookPolicy:
    """Which webhooks are taken.

    Attributes:
        can_sign: Whether there is a secret.
        allowed_hosts: Hosts that may be private and without TLS.
        may_be_loopback: Whether this machine itself may be named: where callers need no keys, they are on it.
    """

    can_sign: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    may_be_loopback: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the configured one."""
        is_local = settings.authentication != "none" and not settings.keys_required()
        return cls(settings.webhook_secret is not None, settings.webhook_allowed_hosts, is_local)

    def errors(self, url: str | None) -> list[FieldError]:
        """Return what is wrong with a request's webhook, if anything."""
        if url is None:
            return []
        if not self.can_sign:
            return [_wrong("this service signs no webhooks; who runs it can set NASATLAS_WEBHOOK_SECRET")]
        try:
            WebhookTarget.parse(url, allowed_hosts=self.allowed_hosts, may_be_loopback=self.may_be_loopback)
        except ForbiddenTargetError as error:
            return [_wrong(str(error))]
        return []


def _wrong(msg: str) -> FieldError:
    return FieldError(loc=["body", "webhook_url"], msg=msg)


def view(session: Session, search: SearchRow) -> WebhookView | None:
    """Return a search's webhook with the news of its last end; None where it has none."""
    if search.webhook_url is None:
        return None
    delivery = webhooks_db.latest_of(session, search.id)
    told: Mapping[str, Any] = {
        "state": "waiting" if delivery is None else delivery.state,
        "ended_as": delivery and delivery.summary["state"],
        "attempts": 0 if delivery is None else delivery.attempts,
        "last_status": delivery and delivery.last_status,
        "last_error": delivery and delivery.last_error,
        "next_attempt_at": delivery.next_attempt_at if delivery is not None and delivery.state == "pending" else None,
        "delivered_at": delivery and delivery.delivered_at,
    }
    return WebhookView.model_validate({"url": search.webhook_url, **told})
