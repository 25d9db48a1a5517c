"""Explain why a call got no response from a Layertap server: translate gRPC's error text into one line of advice.

The patterns match the texts of the gRPC versions that the SDK supports; an unknown text is kept as it is.
"""

from __future__ import annotations

import os
import re

from layertap._address import parse_address
from layertap._probe import Listener, find_listener
from layertap.errors import DeadlineError, LayertapError, UnavailableError, WrongServerError

_NO_TLS = "the server at {address} does not speak TLS; connect without it (no tls=, --tls or https://)"
_UNTRUSTED = (
    "the certificate of {address} is not from a trusted authority; name the authority with tls=Tls(roots=FILE) or "
    "--tls-roots FILE"
)
_OTHER_NAME = "the certificate of {address} is for another name; connect by that name, or pass Tls(server_name=NAME)"
_NO_GRPC = "the server at {address} is no gRPC server; is it the port of a web server, or the metrics port?"
_NO_LAYERTAP = "the server at {address} is no Layertap server, or has another version (its message: {details})"
_NO_HOST = "the host name in {address} cannot be resolved; is it spelled correctly?"
_NO_WAY = "the proxy for {address} refused the connection ({last}); list hosts that need no proxy in no_proxy"
_CLOSES = "{address} closes each connection; does it require TLS (tls=True, --tls, https://) or a client certificate?"
_NOBODY = "no server answers at {address} ({last}); start one with 'layertap serve', or correct the address{proxy}"
_LATE = "no response from {address} before the deadline; allow more time with timeout_seconds or --timeout"
_RULES: tuple[tuple[str, str, type[LayertapError], str], ...] = (
    (
        "UNAVAILABLE",
        r"address lookup failed|DNS resolution failed|Name or service not known|errors resolving",
        UnavailableError,
        _NO_HOST,
    ),
    ("UNAVAILABLE", r"WRONG_VERSION_NUMBER", WrongServerError, _NO_TLS),
    ("UNAVAILABLE", r"CERTIFICATE_VERIFY_FAILED", WrongServerError, _UNTRUSTED),
    ("UNAVAILABLE", r"Hostname Verification Check failed", WrongServerError, _OTHER_NAME),
    ("UNAVAILABLE", r"Failed parsing HTTP/2|Expected SETTINGS frame|http1\.x server", WrongServerError, _NO_GRPC),
    ("UNIMPLEMENTED", r"", WrongServerError, _NO_LAYERTAP),
    ("UNAVAILABLE", r"HTTP proxy", UnavailableError, _NO_WAY),
    (
        "UNAVAILABLE",
        r"last error: .*(Socket closed|onnection reset|onnection closed|GOAWAY)",
        UnavailableError,
        _CLOSES,
    ),
    ("UNAVAILABLE", r"last error: ", UnavailableError, _NOBODY),
    ("DEADLINE_EXCEEDED", r"^(Stream removed \()?Deadline Exceeded\)?$", DeadlineError, _LATE),
)
"""gRPC status, pattern of its text, and the error class and message for both; the first match applies."""
_OF_LISTENER: dict[Listener, tuple[type[LayertapError], str]] = {
    Listener.OTHER: (WrongServerError, _NO_GRPC),
    Listener.CLOSING: (UnavailableError, _CLOSES),
}
"""Error class and message if one address of a host name refused the connection and another one has a listener."""
_PREAMBLE = re.compile(
    r"^.*last error: (?:[A-Z_]+: )?(?:(?:ipv4|ipv6|unix)\S*: )?(?:Failed to connect to remote host: )?"
)
"""Text before the cause of the last failed attempt."""
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables of proxies that gRPC reads, in its order."""


def explain(status: str, details: str, address: str) -> LayertapError | None:
    """Return the error that explains why no Layertap server responded; None if the server itself raised an error."""
    for of_status, pattern, error, message in _RULES:
        if status == of_status and re.search(pattern, details):
            last = _PREAMBLE.sub("", details)
            proxy = _proxy_note(address)
            if message == _NOBODY and "refused" in last and not proxy:
                kind, text = _OF_LISTENER.get(find_listener(address), (error, message))
            else:
                kind, text = error, message
            return kind(text.format(address=address, details=details, last=last, proxy=proxy))
    return None


def _proxy_note(address: str) -> str:
    """Return a note about the proxy that gRPC may have used; empty without one."""
    variable = next((name for name in _PROXIES if os.environ.get(name)), None)
    try:
        is_proxied = variable is not None and not parse_address(address).is_this_host
    except ValueError:  # the caller does not know the address
        is_proxied = False
    return f"; {variable} is set, and gRPC goes through that proxy" if is_proxied else ""
