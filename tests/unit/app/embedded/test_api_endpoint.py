import http.server
import socket
import threading

import pytest

from app.embedded.api_endpoint import ApiEndpoint
from app.embedded.errors import EmbeddedStackError


def test_free_port_can_be_listened_on() -> None:
    endpoint = ApiEndpoint.choose("127.0.0.1", None)
    with socket.create_server((endpoint.host, endpoint.port)):
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"


def test_taken_port_and_foreign_host_are_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(EmbeddedStackError, match=r"Address already in use.*Choose another"),
    ):
        ApiEndpoint.choose("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(EmbeddedStackError, match=r"cannot listen on 192\.0\.2\.1"):
        ApiEndpoint.choose("192.0.2.1", None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("box.example", "http://box.example:80"),
    ],
)
def test_url_is_one_that_can_be_asked(host: str, url: str) -> None:
    assert ApiEndpoint(host, 80).url == url


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_ready_is_what_readyz_says(status: int, ready: bool) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert ApiEndpoint("127.0.0.1", server.server_port).is_ready() == ready
        thread.join()


def test_not_ready_while_nobody_listens() -> None:
    assert not ApiEndpoint.choose("127.0.0.1", None).is_ready()
