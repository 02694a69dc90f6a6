"""Signatures of webhooks: HMAC-SHA256 over the moment and the body, as ``t=1700000000,v1=<hexadecimal>``."""

import hashlib
import hmac

HEADER = "NasAtlas-Signature"
"""The header that carries it."""

TOLERANCE_S = 300
"""How old a signature may be: whoever recorded a delivery cannot send it again later."""


class InvalidSignatureError(ValueError):
    """The body was not signed with this secret, or too long ago."""


def sign(secret: str, body: bytes, at: int) -> str:
    """Return the signature of a body.

    Args:
        secret: What both sides know.
        body: The bytes that are sent.
        at: Now, in seconds since 1970.
    """
    return f"t={at},v1={_digest(secret, body, at)}"


def verify(secret: str, signature: str, body: bytes, *, now: float, tolerance_s: float = TOLERANCE_S) -> None:
    """Check a signature.

    Args:
        secret: What both sides know.
        signature: The header's value.
        body: The bytes as they came, before any parsing.
        now: Seconds since 1970.
        tolerance_s: How far ``t`` may be from now.

    Raises:
        InvalidSignatureError: If it is none of this body and secret, or is too old.
    """
    fields = [part.strip().partition("=") for part in signature.split(",")]
    times = [value for name, _, value in fields if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 15:
        raise InvalidSignatureError(f"the header {HEADER} must read t=SECONDS,v1=HEXADECIMAL")
    expected = _digest(secret, body, int(times[0])).encode()
    # all are compared: a sender that changes its secret may sign with both for a while
    matches = [hmac.compare_digest(expected, value.encode()) for name, _, value in fields if name == "v1"]
    if not any(matches):
        raise InvalidSignatureError(
            "the signature is not that of this body and secret; give the body's bytes as they came, and the service's "
            "NASATLAS_WEBHOOK_SECRET"
        )
    if abs(now - int(times[0])) > tolerance_s:
        raise InvalidSignatureError(
            f"the signature is older or newer than {tolerance_s:g} s; check this machine's clock"
        )


def _digest(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
