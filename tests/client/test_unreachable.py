"""Test the explanation of gRPC's error texts, in the forms of all supported versions."""

from __future__ import annotations

import pytest

from layertap import errors
from layertap._unreachable import explain

FAILING = "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: "
REFUSED = f"{FAILING}Failed to connect to remote host: "
OLDER = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: "
HANDSHAKE = f"{FAILING}Tls handshake failed: SSL_ERROR_SSL: "


@pytest.mark.parametrize(
    ("details", "expected", "words"),
    [
        (f"{REFUSED}Connection refused", errors.UnavailableError, r"no server answers at box:1 \(Connection refused\)"),
        (f"{OLDER}connect: Connection refused (111)", errors.UnavailableError, "no server answers at box:1"),
        ("DNS resolution failed for box:1: C-ares status", errors.UnavailableError, "cannot be resolved"),
        ("errors resolving box:1: [address lookup failed]", errors.UnavailableError, "cannot be resolved"),
        (f"{HANDSHAKE}WRONG_VERSION_NUMBER: x", errors.WrongServerError, "does not speak TLS"),
        (f"{HANDSHAKE}CERTIFICATE_VERIFY_FAILED: x", errors.WrongServerError, "--tls-roots"),
        (f"{REFUSED}Socket closed", errors.UnavailableError, "does it require TLS"),
        (
            "last error: UNAVAILABLE: ipv4:1: Failed parsing HTTP/2 (Expected SETTINGS frame)",
            errors.WrongServerError,
            "no gRPC",
        ),
        ("last error: UNKNOWN: ipv4:1: HTTP proxy returned response code 501", errors.UnavailableError, "no_proxy"),
    ],
)
def test_what_is_known(details: str, expected: type[errors.LayertapError], words: str) -> None:
    """Check the explanation of each known error text."""
    error = explain("UNAVAILABLE", details, "box:1")
    assert type(error) is expected
    with pytest.raises(expected, match=words):
        raise error


def test_another_service() -> None:
    """Check the error of a server without Layertap's services."""
    assert type(explain("UNIMPLEMENTED", "Method not found!", "box:1")) is errors.WrongServerError


@pytest.mark.parametrize("details", ["Deadline Exceeded", "Stream removed (Deadline Exceeded)"])
def test_too_late(details: str) -> None:
    """Check the message of an expired deadline."""
    with pytest.raises(errors.DeadlineError, match="no response from box:1 before the deadline"):
        raise explain("DEADLINE_EXCEEDED", details, "box:1") or AssertionError


def test_what_a_server_says_itself_is_left_alone() -> None:
    """Check that errors raised by a Layertap server are not replaced."""
    assert explain("UNAVAILABLE", "the server is draining", "box:1") is None
    assert explain("DEADLINE_EXCEEDED", "the request waited too long", "box:1") is None
    assert explain("INTERNAL", "incident 7", "box:1") is None


def test_the_proxy_that_may_be_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the message names a proxy that may have been used."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert "proxy" not in str(explain("UNAVAILABLE", f"{REFUSED}x", "example.com:1"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    assert "http_proxy is set" in str(explain("UNAVAILABLE", f"{REFUSED}x", "example.com:1"))
    assert "proxy" not in str(explain("UNAVAILABLE", f"{REFUSED}x", "localhost:1"))
    assert "proxy" not in str(explain("UNAVAILABLE", f"{REFUSED}x", "the server"))
