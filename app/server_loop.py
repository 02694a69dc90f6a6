"""The event loop of the API's processes: ``uvicorn --loop app.server_loop:ServerLoop``.

Processes that share one listening socket race for new connections, and the first takes all that are there: eight that
arrive together may all be one process's, and the other's core idles. Here each process listens at the same address by
itself (SO_REUSEPORT), and the kernel deals the connections out.
"""

import socket
import sys
from asyncio import AbstractServer
from typing import Any

import uvloop

NEVER_STARTS = 3
"""uvicorn's own status of a process that would fail the same way again; any other it starts once more, for ever."""


class ServerLoop(uvloop.Loop):
    """uvloop's, but for the socket that a server gets from its parent process."""

    async def create_server(  # type: ignore[override]
        self, *args: Any, sock: socket.socket | None = None, **kwargs: Any
    ) -> AbstractServer:
        """Listen at the address that the socket is bound to, with a socket of this process; without one as always."""
        own = None if sock is None else _twin(sock)
        return await super().create_server(*args, sock=own, **kwargs)


def _twin(bound: socket.socket) -> socket.socket:
    """Bind another socket to the same address; the first one must never listen."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    twin = socket.socket(bound.family, bound.type)
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        twin.bind(bound.getsockname())
    except OSError as error:
        sys.stderr.write(f"cannot listen at {bound.getsockname()}: {error}; WEB_CONCURRENCY=1 needs no second socket\n")
        raise SystemExit(NEVER_STARTS) from None
    return twin
