"""Webhooks from the request to the receiver: a real server on loopback takes what the courier sends."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, update

from app.client.webhooks import verify_signature
from app.db.engine import get_engine, transaction
from app.db.models import WebhookDeliveryRow
from app.domain.webhook_signature import InvalidSignatureError
from app.main import create_app
from app.settings import Settings, get_settings
from worker.webhook_courier import WebhookCourier

SECRET = "a secret of sixteen and more"
REQUEST = {"dataset": "digits", "search_space": "fairnas", "num_sampled": 40}


@dataclass
class Receiver:
    """A server that keeps what it is sent, and answers with the next of the given statuses."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            self.send_header("Location", f"{receiver.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook?of=atlas"
        yield receiver
        server.shutdown()
        thread.join()


@pytest.fixture
def webhook_settings(api_settings: Settings) -> Settings:
    return Settings.model_validate({**api_settings.model_dump(), "webhook_secret": SECRET})


@pytest.fixture
def hooked(webhook_settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(webhook_settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def engine(api_settings: Settings) -> Engine:
    return get_engine(api_settings.required_database_url())


def make_due(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(WebhookDeliveryRow).values(next_attempt_at=func.now()))


def ended(hooked: TestClient, url: str) -> uuid.UUID:
    """A search with a webhook, cancelled before it began."""
    response = hooked.post("/search", json={**REQUEST, "webhook_url": url})
    assert response.status_code == 202, response.text
    search = response.json()
    assert search["webhook"] == {
        "url": url,
        "state": "waiting",
        "ended_as": None,
        "attempts": 0,
        "last_status": None,
        "last_error": None,
        "next_attempt_at": None,
        "delivered_at": None,
    }
    assert hooked.post(f"/search/{search['id']}/cancel").status_code == 200
    return uuid.UUID(search["id"])


def webhook_of(client: TestClient, search_id: uuid.UUID) -> dict[str, Any]:
    webhook: dict[str, Any] = client.get(f"/search/{search_id}").json()["webhook"]
    return webhook


def test_a_delivery_is_signed_and_told_once(hooked: TestClient, engine: Engine, receiver: Receiver) -> None:
    search_id = ended(hooked, receiver.url)
    assert webhook_of(hooked, search_id)["state"] == "pending"
    courier = WebhookCourier(engine, SECRET)
    assert courier.deliver_due() == 1
    ((headers, body),) = receiver.received
    news = verify_signature(body, headers["nasatlas-signature"], SECRET)
    assert (news.type, news.data.id, news.data.state) == ("search.cancelled", search_id, "cancelled")
    assert headers["nasatlas-delivery"] == str(news.id)
    assert headers["content-type"] == "application/json"
    assert headers["host"] == receiver.url.split("/")[2]
    with pytest.raises(InvalidSignatureError):
        verify_signature(body, headers["nasatlas-signature"], "another secret of the kind")
    with pytest.raises(InvalidSignatureError):
        verify_signature(body, headers["nasatlas-signature"], SECRET, now=time.time() + 3600)
    webhook = webhook_of(hooked, search_id)
    assert (webhook["state"], webhook["ended_as"], webhook["attempts"]) == ("delivered", "cancelled", 1)
    assert (webhook["last_status"], webhook["next_attempt_at"]) == (204, None)
    assert courier.deliver_due() == 0
    assert len(receiver.received) == 1


def test_a_receiver_that_fails_is_asked_again_with_the_same_body(
    hooked: TestClient, engine: Engine, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302, 200]
    search_id = ended(hooked, receiver.url)
    courier = WebhookCourier(engine, SECRET)
    told = []
    for _ in range(3):
        assert courier.deliver_due() == 1
        assert courier.deliver_due() == 0, "not before the pause is over"
        told.append(webhook_of(hooked, search_id))
        make_due(engine)
    assert [(w["state"], w["last_status"]) for w in told] == [("pending", 500), ("pending", 302), ("delivered", 200)]
    assert told[0]["next_attempt_at"] is not None
    assert "redirects are not followed" in told[1]["last_error"]
    assert len({body for _, body in receiver.received}) == 1
    assert len(receiver.received) == 3


def test_nobody_there(hooked: TestClient, engine: Engine) -> None:
    search_id = ended(hooked, "http://127.0.0.1:1/hook")
    WebhookCourier(engine, SECRET).deliver_due()
    webhook = webhook_of(hooked, search_id)
    assert (webhook["state"], webhook["last_status"]) == ("pending", None)
    assert webhook["last_error"]


def test_a_name_that_resolves_to_this_machine_is_refused_unless_it_is_allowed(
    hooked: TestClient, engine: Engine, receiver: Receiver
) -> None:
    """The name is public when it is given; when the news goes out, its owner has pointed it at our network."""
    port = receiver.url.split("/")[2].partition(":")[2]
    search_id = ended(hooked, f"https://hooks.example.org:{port}/x")
    asked = []

    async def rebound(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    WebhookCourier(engine, SECRET, resolve=rebound).deliver_due()
    assert asked == [("hooks.example.org", int(port))]
    assert receiver.received == []
    assert "not public" in webhook_of(hooked, search_id)["last_error"]

    with transaction(engine) as session:
        session.execute(
            update(WebhookDeliveryRow.__table__.metadata.tables["searches"]).values(
                webhook_url=f"http://hooks.example.org:{port}/x"
            )
        )
    make_due(engine)
    allowed = frozenset({"hooks.example.org"})
    WebhookCourier(engine, SECRET, allowed, resolve=rebound).deliver_due()
    assert receiver.received[0][0]["host"] == f"hooks.example.org:{port}"
    assert webhook_of(hooked, search_id)["state"] == "delivered"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.org/x", "begins with https://"),
        ("https://10.0.0.1/x", "no public host"),
        ("https://user:password@example.org", "leave the user"),
        ("nonsense", "give a URL"),
        ("", "at least 1 character"),
        ("https://example.org/" + "x" * 2000, "at most 2000"),
    ],
)
def test_urls_that_will_not_do(hooked: TestClient, url: str, says: str) -> None:
    problem = hooked.post("/search", json={**REQUEST, "webhook_url": url}).json()
    (error,) = problem["errors"]
    assert error["loc"] == ["body", "webhook_url"]
    assert says in error["msg"]


@pytest.mark.usefixtures("receiver")
def test_without_a_secret_a_webhook_is_refused(client: TestClient, factory: Any) -> None:
    search = factory.search()
    for method, path, body in (
        ("POST", "/search", REQUEST),
        ("POST", f"/search/{search.id}/architectures/{'0' * 8}/retraining", {}),
        ("POST", "/devices/pixel/measurement", {"search_space": "fairnas"}),
    ):
        response = client.request(method, path, json={**body, "webhook_url": "https://example.org"})
        assert response.status_code == 422
        assert "NASATLAS_WEBHOOK_SECRET" in response.json()["detail"]


def test_jobs_tell_as_searches_do(hooked: TestClient, engine: Engine, factory: Any, receiver: Receiver) -> None:
    path = f"/search/{factory.search().id}/architectures/{'0' * 8}/retraining"
    for number, (job_path, body) in enumerate(((path, {}), ("/devices/pixel/measurement", {"threads": 2})), start=1):
        job = hooked.post(job_path, json={**body, "webhook_url": receiver.url}).json()
        hooked.post(f"/search/{job['id']}/cancel")
        WebhookCourier(engine, SECRET).deliver_due()
        assert json.loads(receiver.received[-1][1])["type"] == f"{job['kind']}.cancelled"
        assert len(receiver.received) == number


def test_the_reaper_delivers(
    hooked: TestClient, engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASATLAS_WEBHOOK_SECRET", SECRET)
    get_settings.cache_clear()
    from worker import reaper  # reads the settings when it is imported

    search_ids = {str(ended(hooked, receiver.url)) for _ in range(3)}
    with reaper._delivering:
        reaper.deliver_webhooks()  # one is at it: nothing to do
        assert receiver.received == []
    reaper.deliver_webhooks()
    with reaper._delivering:  # its thread has it until nothing is due
        assert {json.loads(body)["data"]["id"] for _, body in receiver.received} == search_ids
