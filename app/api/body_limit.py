"""Refuses bodies that are larger than any honest request, before they are read.

FastAPI's own ``max_body_size`` answers in plain text; ours is a problem like every other.
"""

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 2**20
_UPLOAD_PATH = re.compile(r"/datasets/[^/]+/?")


class BodyTooLargeError(HTTPException):
    """The body has more than ``max_bytes``; of this kind, because FastAPI takes any other for a syntax error."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(413)
        self.max_bytes = max_bytes


class BodyLimitMiddleware:
    """Raises 413 for a request whose body has more than :data:`MAX_BODY_BYTES`, announced or not.

    Args:
        app: What answers.
        max_upload_bytes: What the route that takes data sets may get instead; it keeps no body in memory.
    """

    def __init__(self, app: ASGIApp, *, max_upload_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        max_bytes = self._max_upload_bytes if _is_upload(scope) else MAX_BODY_BYTES
        num_bytes = 0

        async def limited_receive() -> Message:
            nonlocal num_bytes
            if announced.isdigit() and int(announced) > max_bytes:
                raise BodyTooLargeError(max_bytes)
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise BodyTooLargeError(max_bytes)
            return message

        await self._app(scope, limited_receive, send)


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and _UPLOAD_PATH.fullmatch(scope["path"]) is not None
