"""Where webhooks may go, by URL and by what its host resolves to."""

import ipaddress

import pytest

from app.domain.webhook_target import ForbiddenTargetError, WebhookTarget, is_public


def parse(url: str, *allowed: str, may_be_loopback: bool = False) -> WebhookTarget:
    return WebhookTarget.parse(url, allowed_hosts=allowed, may_be_loopback=may_be_loopback)


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://example.org", WebhookTarget("https", "example.org", 443, "/"), "example.org"),
        (
            "https://Example.org:8443/a/b?c=d",
            WebhookTarget("https", "example.org", 8443, "/a/b?c=d"),
            "example.org:8443",
        ),
        ("https://[2606:4700::1]/x", WebhookTarget("https", "2606:4700::1", 443, "/x"), "[2606:4700::1]"),
        ("https://8.8.8.8", WebhookTarget("https", "8.8.8.8", 443, "/"), "8.8.8.8"),
    ],
)
def test_public_urls(url: str, target: WebhookTarget, authority: str) -> None:
    assert parse(url) == target
    assert target.authority == authority


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"])
def test_this_machine_only_where_it_may_be_named(host: str) -> None:
    assert parse(f"http://{host}:8080/x", may_be_loopback=True).port == 8080
    for scheme in ("http", "https"):
        with pytest.raises(ForbiddenTargetError, match="NASATLAS_WEBHOOK_ALLOWED_HOSTS"):
            parse(f"{scheme}://{host}:8080/x")


def test_allowed_hosts_may_be_private_and_plain() -> None:
    for host in ("10.0.0.7", "hooks.internal"):
        target = parse(f"http://{host}/x", "10.0.0.7", "hooks.internal")
        target.check_addresses(["10.0.0.7"], ["10.0.0.7", "hooks.internal"])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "http://example.org",
        "https://",
        "https://user:password@example.org",
        "https://8.8.8.8@127.0.0.1/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org:0",
        "https://example.org:99999",
        "https://example.org:port",
        "https://[::1",
        "https://example.org/#x",
        "https://ex ample.org",
        "https://example.org/\u00e4",
        "https://ex\u00e4mple.org",
        "https://example.org/\r\nX: y",
        "https://-example.org",
        "https://10.0.0.1",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0.0.0.0/",
    ],
)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        parse(url)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "hooks.example.org"])
def test_names_that_resolve_to_this_machine_are_no_names_of_it(host: str) -> None:
    with pytest.raises(ForbiddenTargetError, match="http://"):
        parse(f"http://{host}/", may_be_loopback=True)
    target = parse(f"https://{host}/", may_be_loopback=True)
    with pytest.raises(ForbiddenTargetError, match="not public") as caught:
        target.check_addresses(["8.8.8.8", "127.0.0.1"], [])
    assert "127.0.0.1 " not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:192.168.1.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::8.8.8.8", True),
        ("2002:0a00:0001::", False),
    ],
)
def test_public_addresses(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
