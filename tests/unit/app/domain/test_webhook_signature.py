"""Signatures of webhooks, as receivers check them."""

import pytest

from app.domain.webhook_signature import InvalidSignatureError, sign, verify

SECRET = "a secret of sixteen and more"
BODY = b'{"id":"1"}'
AT = 1_700_000_000
# printf '1700000000.{"id":"1"}' | openssl dgst -sha256 -hmac "a secret of sixteen and more"
KNOWN = "e162736cc6a2273b99b47f224920cf5bd973ecaf2cd0b89ccf9a60da47f44d32"


def test_a_known_signature() -> None:
    assert sign(SECRET, BODY, AT) == "t=1700000000,v1=" + KNOWN


def test_what_was_signed_is_accepted_for_a_while() -> None:
    signature = sign(SECRET, BODY, AT)
    for now in (AT, AT + 300, AT - 300):
        verify(SECRET, signature, BODY, now=now)
    verify(SECRET, f"t={AT},v1=00,{signature.partition(',')[2]}", BODY, now=AT)
    verify(SECRET, signature.replace(",", ", "), BODY, now=AT)


@pytest.mark.parametrize(
    ("secret", "signature", "body", "now", "says"),
    [
        ("another secret of the kind", sign(SECRET, BODY, AT), BODY, AT, "not that of this body"),
        (SECRET, sign(SECRET, BODY, AT), BODY + b" ", AT, "not that of this body"),
        (SECRET, sign(SECRET, BODY, AT).replace("t=17", "t=18"), BODY, AT, "not that of this body"),
        (SECRET, sign(SECRET, BODY, AT), BODY, AT + 301, "clock"),
        (SECRET, sign(SECRET, BODY, AT), BODY, AT - 301, "clock"),
        (SECRET, f"t={AT}", BODY, AT, "not that of this body"),
        (SECRET, "", BODY, AT, "must read"),
        (SECRET, "v1=00", BODY, AT, "must read"),
        (SECRET, f"t={AT},t={AT},v1=00", BODY, AT, "must read"),
        (SECRET, "t=-1,v1=00", BODY, AT, "must read"),
        (SECRET, f"t={'9' * 5000},v1=00", BODY, AT, "must read"),
        (SECRET, f"t={AT},v1=\u00e4", BODY, AT, "not that of this body"),
    ],
)
def test_what_was_not_is_refused(secret: str, signature: str, body: bytes, now: int, says: str) -> None:
    with pytest.raises(InvalidSignatureError, match=says):
        verify(secret, signature, body, now=now)
