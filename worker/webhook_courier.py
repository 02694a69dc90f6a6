"""Delivers webhooks: takes what is due from the outbox, signs it, sends it, and notes what became of it.

Every receiver gets the same few seconds and all of a batch are asked at once, so one that is slow holds up none but
those that wait for the next batch. Redirects are not followed and the environment's proxies are not used: both would
lead to addresses that nobody checked. A host is resolved once, all its addresses are checked, and the connection goes
to one of those; a second look-up by the HTTP library could give another answer.
"""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx2
import structlog
from sqlalchemy import Engine

from app.db import webhooks as webhooks_db
from app.db.engine import transaction
from app.db.webhooks import ClaimedDelivery
from app.domain.webhook_signature import HEADER, sign
from app.domain.webhook_target import ForbiddenTargetError, WebhookTarget

TIMEOUT_S = 10.0
"""For everything that one attempt does."""

MAX_AT_ONCE = 16

DELIVERY_HEADER = "NasAtlas-Delivery"
"""Carries the delivery's id, for receivers that want to do a thing once."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

log = structlog.get_logger(__name__)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return all addresses of a host.

    Raises:
        OSError: If it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class _Result:
    """What an attempt gave: delivered, or a reason why not; the status where there was an answer."""

    status: int | None
    reason: str | None


@dataclass(frozen=True)
class WebhookCourier:
    """Empties the outbox.

    Attributes:
        engine: The database.
        secret: What deliveries are signed with.
        allowed_hosts: Hosts that may be private and without TLS.
        resolve: Looks up a host's addresses.
    """

    engine: Engine
    secret: str = field(repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    resolve: Resolve = resolve

    def deliver_due(self) -> int:
        """Try once to deliver what is due, up to a batch; return how many were tried."""
        with transaction(self.engine) as session:
            webhooks_db.give_up_lost(session)
            deliveries = webhooks_db.claim_due(session, MAX_AT_ONCE)
        if deliveries:
            results = asyncio.run(self._deliver_all(deliveries))
            for delivery, result in zip(deliveries, results, strict=True):
                self._note(delivery, result)
        return len(deliveries)

    async def _deliver_all(self, deliveries: Sequence[ClaimedDelivery]) -> list[_Result]:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            return await asyncio.gather(*(self._attempt(client, delivery) for delivery in deliveries))

    async def _attempt(self, client: httpx2.AsyncClient, delivery: ClaimedDelivery) -> _Result:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._send(client, delivery)
        except ForbiddenTargetError as error:
            return _Result(None, str(error))
        except TimeoutError:
            return _Result(None, f"no answer within {TIMEOUT_S:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ssl.SSLError, UnicodeError) as error:
            return _Result(None, str(error) or type(error).__name__)
        if 200 <= status < 300:
            return _Result(status, None)
        hint = "; redirects are not followed, give the final address" if 300 <= status < 400 else ""
        return _Result(status, f"the receiver answered {status}{hint}")

    async def _send(self, client: httpx2.AsyncClient, delivery: ClaimedDelivery) -> int:
        """Send it and return the answer's status; the answer's body is nobody's business and is not read."""
        target = WebhookTarget.parse(delivery.url, allowed_hosts=self.allowed_hosts, may_be_loopback=True)
        addresses = await self.resolve(target.host, target.port)
        target.check_addresses(addresses, self.allowed_hosts)
        body = body_of(delivery)
        request = client.build_request(
            "POST",
            _address_url(target, addresses[0]),
            content=body,
            headers={
                "Host": target.authority,
                "Content-Type": "application/json",
                "User-Agent": f"nasatlas/{version('nasatlas')}",
                DELIVERY_HEADER: str(delivery.id),
                HEADER: sign(self.secret, body, int(time.time())),
            },
            # TLS is with the name, though the connection is with the address that was checked
            extensions={"sni_hostname": target.host},
        )
        response = await client.send(request, stream=True)
        await response.aclose()
        return response.status_code

    def _note(self, delivery: ClaimedDelivery, result: _Result) -> None:
        told: dict[str, Any] = {"delivery_id": str(delivery.id), "search_id": str(delivery.search_id)}
        with transaction(self.engine) as session:
            if result.reason is None:
                assert result.status is not None
                webhooks_db.note_delivered(session, delivery, result.status)
                log.info("webhook delivered", **told)
            else:
                webhooks_db.note_failed(session, delivery, result.status, result.reason)
                log.warning("webhook not delivered", attempt=delivery.attempts, reason=result.reason, **told)


def body_of(delivery: ClaimedDelivery) -> bytes:
    """Return what is sent, the same bytes in every attempt."""
    summary = delivery.summary
    news = {"id": str(delivery.id), "type": f"{summary['kind']}.{summary['state']}", "data": summary}
    return json.dumps(news, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _address_url(target: WebhookTarget, address: str) -> httpx2.URL:
    host = f"[{address}]" if ":" in address else address
    return httpx2.URL(f"{target.scheme}://{host}:{target.port}{target.path}")
