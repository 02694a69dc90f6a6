"""One attempt to deliver a webhook: what is sent, to which address, and what every answer means.

What is due, when, and what is noted of it is in the contract and integration tests.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest
from sqlalchemy import Engine

from app.db.webhooks import ClaimedDelivery
from app.domain.webhook_signature import HEADER, verify
from worker import webhook_courier
from worker.webhook_courier import DELIVERY_HEADER, WebhookCourier, body_of

SECRET = "a secret of sixteen and more"
SUMMARY = {"kind": "search", "state": "succeeded", "dataset": "bäume", "id": "7"}
Answer = Callable[[httpx2.Request], httpx2.Response]


def delivery(url: str = "https://hooks.example.org/x?y=1", summary: dict[str, Any] = SUMMARY) -> ClaimedDelivery:
    return ClaimedDelivery(uuid.UUID(int=1), uuid.UUID(int=7), url, summary, 1)


def attempt(answer: Answer, *addresses: str, url: str = "https://hooks.example.org/x?y=1") -> Any:
    async def resolve(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError("Name or service not known")
        return list(addresses)

    courier = WebhookCourier(cast(Engine, None), SECRET, frozenset({"inside"}), resolve)

    async def run() -> Any:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            return await courier._attempt(client, delivery(url))

    return asyncio.run(run())


def answering(status: int, seen: list[httpx2.Request] | None = None) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(request)
        return httpx2.Response(status)

    return answer


def test_the_body_is_the_same_bytes_whatever_the_order_of_the_summary() -> None:
    body = body_of(delivery())
    assert body == body_of(delivery(summary=dict(reversed(SUMMARY.items()))))
    assert json.loads(body) == {"id": str(uuid.UUID(int=1)), "type": "search.succeeded", "data": SUMMARY}
    assert "bäume".encode() in body


def test_it_goes_to_the_checked_address_in_the_name_of_the_host() -> None:
    """Neither the connection nor its certificate asks for the name a second time."""
    seen: list[httpx2.Request] = []
    assert attempt(answering(204, seen), "93.184.215.14", "93.184.215.15").reason is None
    (request,) = seen
    assert str(request.url) == "https://93.184.215.14/x?y=1"
    assert request.headers["host"] == "hooks.example.org"
    assert request.extensions["sni_hostname"] == "hooks.example.org"
    assert request.headers[DELIVERY_HEADER] == str(uuid.UUID(int=1))


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    seen: list[httpx2.Request] = []
    attempt(answering(204, seen), "2606:2800:21f:cb07:6820:80da:af6b:8b2c", url="https://hooks.example.org:8443/x")
    assert seen[0].url.host == "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
    assert (seen[0].url.port, seen[0].headers["host"]) == (8443, "hooks.example.org:8443")


def test_the_signature_is_of_what_is_sent() -> None:
    seen: list[httpx2.Request] = []
    attempt(answering(204, seen), "93.184.215.14")
    verify(SECRET, seen[0].headers[HEADER], seen[0].content, now=time.time())


@pytest.mark.parametrize("status", [200, 204, 299])
def test_these_answers_are_a_delivery(status: int) -> None:
    result = attempt(answering(status), "93.184.215.14")
    assert (result.status, result.reason) == (status, None)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (302, "the receiver answered 302; redirects are not followed, give the final address"),
        (410, "the receiver answered 410"),
        (503, "the receiver answered 503"),
    ],
)
def test_these_are_none(status: int, says: str) -> None:
    result = attempt(answering(status), "93.184.215.14")
    assert (result.status, result.reason) == (status, says)


@pytest.mark.parametrize("address", ["10.0.0.8", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"])
def test_one_address_inside_is_enough_to_refuse_a_host(address: str) -> None:
    seen: list[httpx2.Request] = []
    result = attempt(answering(204, seen), "93.184.215.14", address)
    assert "hooks.example.org resolves to an address that is not public" in result.reason
    assert address not in result.reason
    assert seen == []


def test_an_allowed_host_may_be_inside_and_without_tls() -> None:
    seen: list[httpx2.Request] = []
    assert attempt(answering(204, seen), "10.0.0.8", url="http://inside/x").reason is None
    assert str(seen[0].url) == "http://10.0.0.8/x"


def test_a_host_that_has_no_address() -> None:
    result = attempt(answering(204))
    assert (result.status, result.reason) == (None, "Name or service not known")


def test_a_receiver_that_hangs_up() -> None:
    def cut(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("")

    assert attempt(cut, "93.184.215.14").reason == "ReadError"


def test_all_of_an_attempt_has_the_same_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer counts as well, which the HTTP library's timeouts know nothing of."""
    monkeypatch.setattr(webhook_courier, "TIMEOUT_S", 0.01)

    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def run() -> Any:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answering(204))) as client:
            return await WebhookCourier(cast(Engine, None), SECRET, resolve=never)._attempt(client, delivery())

    assert asyncio.run(run()).reason == "no answer within 0.01 s"


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(WebhookCourier(cast(Engine, None), SECRET))
