"""Refuses bodies that are larger than any honest request, before they are read.

FastAPI's own ``max_body_size`` answers in plain text; ours is a problem like every other.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 2**20


class BodyLimitMiddleware:
    """Raises 413 for a request whose body has more than :data:`MAX_BODY_BYTES`, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        num_bytes = 0

        async def limited_receive() -> Message:
            nonlocal num_bytes
            if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
                raise HTTPException(413)
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, limited_receive, send)
