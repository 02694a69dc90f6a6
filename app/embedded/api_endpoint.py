"""Where the stack's API listens, and whether it is ready."""

import http.client
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from app.embedded.errors import EmbeddedStackError


@dataclass(frozen=True)
class ApiEndpoint:
    """Host and port of the API.

    Attributes:
        host: The address that it listens on.
        port: Its TCP port.
    """

    host: str
    port: int

    @classmethod
    def choose(cls, host: str, port: int | None) -> Self:
        """Return an endpoint on which nobody listens yet.

        Args:
            host: The address to listen on.
            port: The port to use, None for a free one.

        Raises:
            EmbeddedStackError: The port or the host cannot be used.
        """
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                # As uvicorn does: connections of an earlier run that linger (TIME_WAIT) do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return cls(host, int(probe.getsockname()[1]))
        except OSError as error:
            where = f"{host} port {port}" if port else host
            raise EmbeddedStackError(
                f"The API cannot listen on {where}: {error.strerror}. "
                "Choose another host or port, or no port for a free one."
            ) from None

    @property
    def reachable_host(self) -> str:
        """The address to ask: what listens everywhere is asked at the loopback address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)

    @property
    def url(self) -> str:
        """The URL of the API, without a final slash."""
        host = f"[{self.reachable_host}]" if ":" in self.reachable_host else self.reachable_host
        return f"http://{host}:{self.port}"

    def is_ready(self) -> bool:
        """Say whether ``GET /readyz`` answers 200."""
        connection = http.client.HTTPConnection(self.reachable_host, self.port, timeout=5.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):  # not listening yet
            return False
        finally:
            connection.close()
