"""Parse a server's address as users write it into a gRPC target, TLS or not, and whether it is this host."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 8001
"""Port of an address without a port."""
HIGHEST_PORT = 65535
"""Largest valid port number."""
URL_SCHEMES = {"http": False, "grpc": False, "https": True, "grpcs": True}
"""Accepted URL schemes, and whether each means TLS."""
GRPC_SCHEMES = {"dns", "ipv4", "ipv6", "passthrough", "unix", "unix-abstract", "vsock", "xds"}
"""Schemes of gRPC targets; such an address is passed to gRPC unchanged."""
WITH_HOSTS = {"dns", "ipv4", "ipv6", "passthrough"}
"""Schemes of gRPC targets whose endpoints are host names or IP addresses."""
LOOPBACK_NAMES = {"localhost", "ip6-localhost", "ip6-loopback"}
"""Host names that always mean this machine."""
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_NO_HOST = re.compile(r"[\s/\\@?#\[\]]")
"""Characters that a host name cannot contain."""
_COLONS_OF_IPV6 = 2
"""Minimum number of colons in an IPv6 address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed server address."""

    target: str
    """gRPC target, such as ``dns:///host:port``."""
    shown: str
    """Address as messages show it, such as ``host:port``."""
    hosts: tuple[str, ...]
    """Host names or IP addresses; empty for a gRPC target without hosts, such as a Unix domain socket."""
    tls: bool | None = None
    """Whether the URL's scheme means TLS; None without a URL scheme."""

    @property
    def is_this_host(self) -> bool:
        """Whether the server runs on this machine, so that no proxy and no network lies between."""
        if not self.hosts:
            return self.target.startswith("unix")
        return all(map(is_this_host, self.hosts))


def parse_address(text: str) -> Address:
    """Parse ``host``, ``host:port``, an IPv6 address, a URL without a path, or a gRPC target.

    Raises:
        ValueError: the text is none of these.
    """
    scheme, is_url, _ = text.partition("://")
    if is_url and scheme.lower() in URL_SCHEMES:
        return _parse_url(text, is_encrypted=URL_SCHEMES[scheme.lower()])
    scheme = text.partition(":")[0]
    if ":" in text and scheme in GRPC_SCHEMES:
        return Address(text, text, _hosts_of_target(text))
    if is_url:
        raise _malformed(text, f"expected a scheme among {', '.join(URL_SCHEMES)}")
    return _parse_host_and_port(text, text)


def is_this_host(host: str) -> bool:
    """Return whether a host name or an IP address belongs to this machine."""
    name = host.lower().rstrip(".")
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return _is_own_name(name)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified or _is_own_ip(ip)


def _parse_url(text: str, *, is_encrypted: bool) -> Address:
    """Parse a URL with one of the `URL_SCHEMES`."""
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise _malformed(text, str(error)) from None
    if "@" in url.netloc:
        raise ValueError("expected an address without user and password; pass a token with token=")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise _malformed(text, "expected no path, query or fragment after the host and port")
    address = _parse_host_and_port(url.netloc, text)
    return Address(address.target, address.shown, address.hosts, is_encrypted)


def _parse_host_and_port(text: str, given: str) -> Address:
    """Parse ``host`` or ``host:port``; error messages quote ``given``."""
    host, port = _split(text, given)
    if port is None and host.isdecimal():
        raise _malformed(given, f"a number alone is a port; write localhost:{host}")
    if not host or _NO_HOST.search(host):
        raise _malformed(given, "the host is missing" if not host else f"{host!r} is not a valid host name")
    if port is not None and not (port.isdecimal() and port.isascii() and 0 < int(port) <= HIGHEST_PORT):
        raise _malformed(given, f"expected a port from 1 to {HIGHEST_PORT}, got {port!r}")
    shown = f"[{host}]:{port or DEFAULT_PORT}" if ":" in host else f"{host}:{port or DEFAULT_PORT}"
    return Address(f"dns:///{shown}", shown, (host,))


def _split(text: str, given: str) -> tuple[str, str | None]:
    """Split a host from its port; the port is None if there is none."""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2]
        if not _is_ipv6(host):
            raise _malformed(given, f"expected an IPv6 address in the brackets, got {host!r}")
        return host, port
    if text.count(":") >= _COLONS_OF_IPV6:
        if not _is_ipv6(text):
            raise _malformed(given, "write an IPv6 address with a port as [::1]:8001")
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _is_ipv6(text: str) -> bool:
    """Return whether the text is an IPv6 address without brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _malformed(given: str, why: str) -> ValueError:
    """Return the error for a malformed address."""
    return ValueError(
        f"{given!r} is not a server address: {why}; expected host:port, such as localhost:{DEFAULT_PORT}, "
        f"[::1]:{DEFAULT_PORT}, or https://host:{DEFAULT_PORT} for TLS"
    )


def _hosts_of_target(target: str) -> tuple[str, ...]:
    """Return the hosts of a gRPC target such as ``dns:///host:port`` or ``ipv4:1.2.3.4:80,1.2.3.5:80``."""
    if target.partition(":")[0] not in WITH_HOSTS:
        return ()
    endpoints = unquote(target.partition(":")[2]).rpartition("/")[2].split(",")
    return tuple(_host_of(endpoint) for endpoint in endpoints)


def _host_of(endpoint: str) -> str:
    """Return the host of one endpoint, without its port."""
    if bracketed := _BRACKETED.fullmatch(endpoint):
        return bracketed[1]
    return endpoint if _is_ipv6(endpoint) else endpoint.partition(":")[0]


def _is_own_name(name: str) -> bool:
    """Return whether a host name is this machine's own, short or fully qualified."""
    own = socket.gethostname().lower()
    if name == own:
        return True
    is_alike = name.partition(".")[0] == own.partition(".")[0]
    return is_alike and name == socket.getfqdn().lower()  # may query a name server


def _is_own_ip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether a socket can be bound to the IP address: a system allows this only for its own addresses."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
