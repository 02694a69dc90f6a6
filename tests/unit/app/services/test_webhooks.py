"""Which webhooks a service takes."""

import pytest

from app.services.webhooks import WebhookPolicy
from app.settings import Settings

SECRET = "a secret of sixteen and more"


def policy(**values: object) -> WebhookPolicy:
    return WebhookPolicy.of(Settings.model_validate({"webhook_secret": SECRET, **values}))


def test_none_without_a_secret() -> None:
    (error,) = WebhookPolicy().errors("https://example.org")
    assert error.loc == ["body", "webhook_url"]
    assert "NASATLAS_WEBHOOK_SECRET" in error.msg
    assert WebhookPolicy().errors(None) == []


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"authentication": "keys"}, False),
        # somebody in front checks who asks, so who asks is elsewhere
        ({"authentication": "none"}, False),
        ({"authentication": "keys", "webhook_allowed_hosts": "hooks.internal, 127.0.0.1"}, True),
    ],
)
def test_this_machine_for_those_who_are_on_it(values: dict[str, object], *, taken: bool) -> None:
    assert (policy(**values).errors("http://127.0.0.1:9000/x") == []) is taken
    assert policy(**values).errors("https://example.org/x") == []
