"""A server's address as people write it -> gRPC's name for it, whether it means TLS, and whether it is this host."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 8001
HIGHEST_PORT = 65535
URL_SCHEMES = {"http": False, "grpc": False, "https": True, "grpcs": True}
"""Schemes of URLs that are taken, and whether each means TLS."""
GRPC_SCHEMES = {"dns", "ipv4", "ipv6", "passthrough", "unix", "unix-abstract", "vsock", "xds"}
"""gRPC's own schemes: such an address goes to gRPC as it is."""
WITH_HOSTS = {"dns", "ipv4", "ipv6", "passthrough"}
LOOPBACK_NAMES = {"localhost", "ip6-localhost", "ip6-loopback"}
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_NO_HOST = re.compile(r"[\s/\\@?#\[\]]")
"""Characters that no host's name has."""
_COLONS_OF_IPV6 = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    target: str
    """gRPC's name for it."""
    shown: str
    """What messages call it: ``host:port``."""
    hosts: tuple[str, ...]
    """Names or IP addresses; none for a target of gRPC's that has none, such as a socket of the file system."""
    tls: bool | None = None
    """What a URL's scheme says; None without one."""

    @property
    def is_this_host(self) -> bool:
        """Whether the server runs on this machine, so that neither a proxy nor a network is between."""
        if not self.hosts:
            return self.target.startswith("unix")
        return all(map(is_this_host, self.hosts))


def parse_address(text: str) -> Address:
    """Read ``host``, ``host:port``, an IPv6 address, a URL without a path, or a target of gRPC's.

    Raises:
        ValueError: it is none of these.
    """
    scheme, is_url, _ = text.partition("://")
    if is_url and scheme.lower() in URL_SCHEMES:
        return _parse_url(text, is_encrypted=URL_SCHEMES[scheme.lower()])
    scheme = text.partition(":")[0]
    if ":" in text and scheme in GRPC_SCHEMES:
        return Address(text, text, _hosts_of_target(text))
    if is_url:
        raise _malformed(text, f"its scheme is none of {', '.join(URL_SCHEMES)}")
    return _parse_host_and_port(text, text)


def is_this_host(host: str) -> bool:
    """Whether a name or an IP address is one of this machine's own."""
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
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise _malformed(text, str(error)) from None
    if "@" in url.netloc:
        raise ValueError("an address has no user and password; a token= goes with every call")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise _malformed(text, "a gRPC server has no path")
    address = _parse_host_and_port(url.netloc, text)
    return Address(address.target, address.shown, address.hosts, is_encrypted)


def _parse_host_and_port(text: str, given: str) -> Address:
    host, port = _split(text, given)
    if port is None and host.isdecimal():
        raise _malformed(given, f"a number alone is a port; write localhost:{host}")
    if not host or _NO_HOST.search(host):
        raise _malformed(given, "the host is missing" if not host else f"{host!r} is no name of a host")
    if port is not None and not (port.isdecimal() and port.isascii() and 0 < int(port) <= HIGHEST_PORT):
        raise _malformed(given, f"the port {port!r} is no number from 1 to {HIGHEST_PORT}")
    shown = f"[{host}]:{port or DEFAULT_PORT}" if ":" in host else f"{host}:{port or DEFAULT_PORT}"
    return Address(f"dns:///{shown}", shown, (host,))


def _split(text: str, given: str) -> tuple[str, str | None]:
    """Split a host from its port; None for no port."""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2]
        if not _is_ipv6(host):
            raise _malformed(given, f"{host!r} is no IPv6 address")
        return host, port
    if text.count(":") >= _COLONS_OF_IPV6:
        if not _is_ipv6(text):
            raise _malformed(given, "an IPv6 address with a port is written [::1]:8001")
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _malformed(given: str, why: str) -> ValueError:
    return ValueError(
        f"{given!r} is no address of a server: {why}; expected host:port, such as localhost:{DEFAULT_PORT}, "
        f"[::1]:{DEFAULT_PORT}, or https://host:{DEFAULT_PORT} for TLS"
    )


def _hosts_of_target(target: str) -> tuple[str, ...]:
    """List the hosts of ``dns:///host:port`` or ``ipv4:1.2.3.4:80,1.2.3.5:80``."""
    if target.partition(":")[0] not in WITH_HOSTS:
        return ()
    endpoints = unquote(target.partition(":")[2]).rpartition("/")[2].split(",")
    return tuple(_host_of(endpoint) for endpoint in endpoints)


def _host_of(endpoint: str) -> str:
    if bracketed := _BRACKETED.fullmatch(endpoint):
        return bracketed[1]
    return endpoint if _is_ipv6(endpoint) else endpoint.partition(":")[0]


def _is_own_name(name: str) -> bool:
    own = socket.gethostname().lower()
    if name == own:
        return True
    is_alike = name.partition(".")[0] == own.partition(".")[0]
    return is_alike and name == socket.getfqdn().lower()  # which may ask a name server


def _is_own_ip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a socket can be bound to it, which the system allows for its own addresses alone."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
