"""Where webhooks may go: not to what only the service can reach (server-side request forgery).

A URL is checked when it is given, and every address that its host resolves to when a delivery goes out: a name that is
public today may be private tomorrow.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

MAX_URL_LENGTH = 2000

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenTargetError(ValueError):
    """A webhook may not go there."""


@dataclass(frozen=True)
class WebhookTarget:
    """A checked URL, in the parts that a request is made of.

    Attributes:
        scheme: http or https.
        host: A name, or an address without brackets; in lower case.
        port: The port.
        path: Path and query, from the first slash on.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, *, allowed_hosts: Collection[str], may_be_loopback: bool) -> Self:
        """Check a URL.

        Args:
            url: What was given.
            allowed_hosts: Hosts that may be private and may be asked without TLS, in lower case.
            may_be_loopback: Whether this machine itself may be named, by ``localhost`` or an address.

        Raises:
            ForbiddenTargetError: If it is no URL, or of a kind that is not allowed.
        """
        parts = _split(url)
        host = (parts.hostname or "").lower()
        is_here = may_be_loopback and is_loopback_name(host)
        if parts.scheme != "https" and not is_here and host not in allowed_hosts:
            raise ForbiddenTargetError(
                "give a URL that begins with https://; http:// is for this machine itself and for hosts in "
                "NASATLAS_WEBHOOK_ALLOWED_HOSTS"
            )
        address = _literal(host)
        is_private = is_loopback_name(host) or (address is not None and not is_public(address))
        if is_private and not is_here and host not in allowed_hosts:
            raise ForbiddenTargetError(
                f"{host} is no public host; who runs the service may add it to NASATLAS_WEBHOOK_ALLOWED_HOSTS"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (443 if self.scheme == "https" else 80)
        return host if is_usual else f"{host}:{self.port}"

    def check_addresses(self, addresses: Collection[str], allowed_hosts: Collection[str]) -> None:
        """Check all that the host resolves to; a host that is loopback by its name was checked when it was given.

        Raises:
            ForbiddenTargetError: If one of them is not public, and the host is not allowed to be private. The address
                is not named: names inside of the network are nobody's business outside.
        """
        if self.host in allowed_hosts or is_loopback_name(self.host):
            return
        if not all(is_public(ipaddress.ip_address(address.partition("%")[0])) for address in addresses):
            raise ForbiddenTargetError(
                f"{self.host} resolves to an address that is not public; who runs the service may add the host to "
                "NASATLAS_WEBHOOK_ALLOWED_HOSTS"
            )


def is_loopback_name(host: str) -> bool:
    """Whether a host is this machine by its very name; names that only resolve to it are not."""
    address = _literal(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_public(address: _IPAddress) -> bool:
    """Whether an address is one of the Internet, and no IPv6 dress of an IPv4 address that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _literal(host: str) -> _IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split(url: str) -> SplitResult:
    """The parts of a URL that no two parsers can read differently.

    Raises:
        ForbiddenTargetError: If there is anything unusual about it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenTargetError(f"this is no URL: {error}") from None
    host = parts.netloc if port is None else parts.netloc.rpartition(":")[0]
    if not _PRINTABLE.fullmatch(url) or "\\" in url or parts.scheme not in ("http", "https"):
        raise ForbiddenTargetError("give a URL in ASCII like https://example.org/hook, special characters escaped")
    if "@" in parts.netloc:
        raise ForbiddenTargetError("leave the user and password out of the URL; deliveries are signed instead")
    if not _HOST.fullmatch(host) or port == 0 or parts.fragment:
        raise ForbiddenTargetError("give a URL with a host, like https://example.org/hook, and without a #fragment")
    return parts
