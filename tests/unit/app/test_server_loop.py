"""Servers that listen at one address each by itself."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from app.server_loop import ServerLoop

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(text: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        writer.close()

    return answer


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = await reader.read()
    writer.close()
    return answer


async def answers_of_two_servers() -> set[bytes]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        servers = [await asyncio.start_server(answering(name), sock=bound) for name in (b"first", b"second")]
        answers = {await ask(bound.getsockname()[1]) for _ in range(64)}
        for server in servers:
            server.close()
            await server.wait_closed()
    return answers


def test_connections_are_dealt_out_among_servers_of_one_bound_socket() -> None:
    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert runner.run(answers_of_two_servers()) == {b"first", b"second"}


def test_a_server_without_a_socket_listens_where_it_is_told() -> None:
    async def serve_and_ask() -> bytes:
        server = await asyncio.start_server(answering(b"here"), "127.0.0.1", 0)
        answer = await ask(server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        return answer

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert runner.run(serve_and_ask()) == b"here"
