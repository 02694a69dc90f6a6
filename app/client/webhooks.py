"""For who receives webhooks: is it from the service, and what does it say.

With FastAPI, for example::

    @app.post("/hook")
    async def hook(request: Request) -> None:
        news = verify_signature(await request.body(), request.headers["NasAtlas-Signature"], SECRET)
        print(news.data.id, news.data.state)
"""

import time

from app.domain.webhook_signature import TOLERANCE_S, InvalidSignatureError, verify
from app.schemas.webhook import WebhookNews

__all__ = ["InvalidSignatureError", "WebhookNews", "verify_signature"]


def verify_signature(
    body: bytes, signature: str, secret: str, *, tolerance_s: float = TOLERANCE_S, now: float | None = None
) -> WebhookNews:
    """Check that a webhook comes from the service, and return what it says.

    A delivery may come more than once, always with the same ``id``; answer with any 2xx status to end that.

    Args:
        body: The request's body, byte for byte.
        signature: Its header ``NasAtlas-Signature``.
        secret: The service's ``NASATLAS_WEBHOOK_SECRET``.
        tolerance_s: How old it may be.
        now: Seconds since 1970; by default this machine's clock.

    Raises:
        InvalidSignatureError: If it is not from the service, or too old.
    """
    verify(secret, signature, body, now=time.time() if now is None else now, tolerance_s=tolerance_s)
    return WebhookNews.model_validate_json(body)
