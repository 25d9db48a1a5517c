"""Test the parsing of addresses."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from layertap import Client, Tls
from layertap._address import is_this_host, parse_address
from layertap._connection import Connection


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("localhost", "dns:///localhost:8001", None),
        ("gpu-box.example:9000", "dns:///gpu-box.example:9000", None),
        ("layertap_1:8001", "dns:///layertap_1:8001", None),
        ("127.0.0.1", "dns:///127.0.0.1:8001", None),
        ("::1", "dns:///[::1]:8001", None),
        ("[::1]", "dns:///[::1]:8001", None),
        ("[::1]:9000", "dns:///[::1]:9000", None),
        ("http://box:9000", "dns:///box:9000", False),
        ("http://box:9000/", "dns:///box:9000", False),
        ("https://box", "dns:///box:8001", True),
        ("HTTPS://[::1]:9000", "dns:///[::1]:9000", True),
        ("grpc://box:9000", "dns:///box:9000", False),
        ("grpcs://box:9000", "dns:///box:9000", True),
        ("dns:///box:9000", "dns:///box:9000", None),
        ("unix:/run/layertap.sock", "unix:/run/layertap.sock", None),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2", None),
    ],
)
def test_what_is_taken(text: str, target: str, tls: bool | None) -> None:
    """Check the target and TLS of valid addresses."""
    address = parse_address(text)
    assert (address.target, address.tls) == (target, tls)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the host is missing"),
        (":8001", "the host is missing"),
        ("9301", "a number alone is a port; write localhost:9301"),
        ("box:", "from 1 to 65535, got ''"),
        ("box:port", "from 1 to 65535, got 'port'"),
        ("box:0", "from 1 to 65535"),
        ("box:65536", "from 1 to 65535"),
        ("box:٣", "from 1 to 65535"),
        ("box:8001/", "from 1 to 65535, got '8001/'"),
        ("::1:x", r"with a port as \[::1\]:8001"),
        ("1:2:3", r"with a port as \[::1\]:8001"),
        ("[box]:1", "expected an IPv6 address in the brackets"),
        ("[::1", r"with a port as \[::1\]:8001"),
        ("a b:1", "is not a valid host name"),
        ("ftp://box", "expected a scheme among http, grpc"),
        ("http://box/v1", "expected no path"),
        ("http://box?x=1", "expected no path"),
        ("http://", "the host is missing"),
        ("http://[::1", "IPv6"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    """Check the error messages of malformed addresses."""
    with pytest.raises(ValueError, match=words) as caught:
        Client(text)
    assert "expected host:port, such as localhost:8001" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_refused_and_not_repeated() -> None:
    """Check that an address with a password is rejected without repeating the password."""
    with pytest.raises(ValueError, match="token=") as caught:
        parse_address("https://user:secret@box:1")
    assert "secret" not in str(caught.value)


def test_a_scheme_that_contradicts_tls() -> None:
    """Check that a plain scheme together with tls= is rejected."""
    with pytest.raises(ValueError, match="write https://box:8001"):
        Connection("http://box", tls=True)
    with pytest.raises(ValueError, match="write https://box:8001"):
        Connection("http://box", tls=Tls())
    Connection("https://box", tls=True)


HERE = [
    "localhost",
    "LocalHost.",
    "app.localhost",
    "127.0.0.1",
    "127.255.3.4",
    "::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    socket.gethostname(),
    socket.gethostname().upper(),
]


@pytest.mark.parametrize("host", HERE)
def test_what_is_this_host(host: str) -> None:
    """Check names and addresses of this host."""
    assert is_this_host(host)
    assert parse_address(f"[{host}]:1" if ":" in host else f"{host}:1").is_this_host


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "192.0.2.1", "2001:db8::1", "layertap"])
def test_what_is_another(host: str) -> None:
    """Check names and addresses of other hosts."""
    assert not is_this_host(host)


def test_an_address_of_an_own_interface_is_this_host() -> None:
    """Check the address of a network interface of this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but makes the system choose the interface
        except OSError:
            pytest.skip("there is no network")
        own = probe.getsockname()[0]
    assert is_this_host(own)


@pytest.mark.parametrize(
    ("target", "is_here"),
    [
        ("unix:/run/x", True),
        ("unix-abstract:x", True),
        ("dns:///localhost:1", True),
        ("dns://8.8.8.8/localhost:1", True),
        ("ipv6:[::1]:1", True),
        ("ipv6:%5B::1%5D:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv4:127.0.0.1:1,192.0.2.1:1", False),
        ("dns:///example.com:1", False),
        ("xds:///localhost", False),
        ("vsock:2:1", False),
    ],
)
def test_targets_of_grpc(target: str, is_here: bool) -> None:
    """Check that gRPC targets are passed on, and whether they are on this host."""
    assert parse_address(target).is_this_host == is_here


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.3:1", "[::1]:1", "unix:/x", f"{socket.gethostname()}:1"])
def test_no_proxy_for_this_host(address: str) -> None:
    """Check that the environment's proxy is bypassed for this host."""
    assert ("grpc.enable_http_proxy", 0) in Connection(address)._channel_options()


def test_grpc_s_own_way_with_proxies_for_others() -> None:
    """Check that gRPC's proxy settings apply to other hosts."""
    options = [name for name, _ in Connection("example.com:1")._channel_options()]
    assert "grpc.enable_http_proxy" not in options


@pytest.mark.parametrize("name", ["roots", "certificate"])
def test_a_file_that_is_no_pem(name: str, tmp_path: Path) -> None:
    """Check that a TLS file that is not PEM is rejected."""
    (tmp_path / "x.pem").write_bytes(b"no certificate")
    pem = b"-----BEGIN CERTIFICATE-----"
    for file, shown in ((b"no certificate", "the given bytes"), (tmp_path / "x.pem", str(tmp_path / "x.pem"))):
        files: dict[str, Any] = {"key": pem, "certificate": pem, name: file}
        with pytest.raises(ValueError, match=f"PEM .* as {name} of tls, got 14 bytes without it: {shown}"):
            Client("localhost", tls=Tls(**files))
