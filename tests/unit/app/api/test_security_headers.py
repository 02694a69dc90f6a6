"""Headers for browsers: on every answer, and what a route says itself stays."""

from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from app.api.security_headers import SecurityHeadersMiddleware


def plain(request: Request) -> Response:
    return PlainTextResponse("text")


def own(request: Request) -> Response:
    policy = "default-src 'none'; script-src 'self'"
    return PlainTextResponse("page", headers={"Content-Security-Policy": policy, "Cache-Control": "max-age=60"})


def stream(request: Request) -> Response:
    return StreamingResponse(iter([b"a", b"b"]))


app = Starlette(routes=[Route("/plain", plain), Route("/own", own), Route("/stream", stream)])
client = TestClient(SecurityHeadersMiddleware(app))


def test_every_answer_has_them() -> None:
    for path, status in (("/plain", 200), ("/stream", 200), ("/nothing", 404)):
        answer = client.get(path)
        assert answer.status_code == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert client.get("/stream").text == "ab"


def test_what_a_route_says_itself_stays_and_is_said_once() -> None:
    headers = client.get("/own").headers
    assert headers.get_list("content-security-policy") == ["default-src 'none'; script-src 'self'"]
    assert headers.get_list("cache-control") == ["max-age=60"]
    assert headers["x-content-type-options"] == "nosniff"


def test_what_is_no_request_passes() -> None:
    """The start and the end of the application, for one."""
    with TestClient(SecurityHeadersMiddleware(app)) as started:
        assert started.get("/plain").text == "text"
