"""Test access control: TLS, mTLS, rotated certificates, tokens and roles, and the rules for open addresses."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from layertap import AsyncClient, Client, Tls, errors
from layertap_server.healthcheck import check
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.processes import ServerProcess, resident_bytes, running_server, until

SECRET, CONTROL = "a-token-for-extraction", "a-token-for-everything"
TOKENS = f"""
team: {{token: {SECRET}, roles: [extract]}}
operator: {{token: {CONTROL}, roles: [extract, control]}}
"""


@dataclass
class Authority:
    """A certificate authority, and the server's files in a folder."""

    folder: Path
    ca: trustme.CA

    def issue(self, name: str = "server") -> tuple[Path, Path]:
        """Issue a certificate and its key, replacing each file by a rename, as a rotation does."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        for path, blob in ((key, issued.private_key_pem), (certificate, issued.cert_chain_pems[0])):
            part = path.with_suffix(".part")
            blob.write_to_path(part)
            part.replace(path)
        return certificate, key

    @property
    def roots(self) -> Path:
        """Write the authority's certificate and return its path."""
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority with a folder."""
    return Authority(tmp_path, trustme.CA())


@pytest.fixture
def flags(authority: Authority) -> list[str]:
    """Return the server's TLS flags."""
    certificate, key = authority.issue()
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)]


def port_of(server: ServerProcess) -> str:
    """Return the server's port."""
    return server.address.rpartition(":")[2]


def test_tls_and_those_who_do_not_speak_it(authority: Authority, flags: list[str]) -> None:
    with running_server(*flags) as server:
        with Client(server.address, tls=Tls(roots=authority.roots)) as client:
            assert client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)
            assert [item.error for item in client.extract_many([EXAMPLE_PHOTO] * 3, model=MODEL)] == [None] * 3
        with Client(server.address, timeout_seconds=3) as plain, pytest.raises(errors.UnavailableError):
            plain.models()
        other = trustme.CA().cert_pem.bytes()
        with Client(server.address, timeout_seconds=3, tls=Tls(other)) as wrong, pytest.raises(errors.UnavailableError):
            wrong.models()
        files = {"LAYERTAP_TLS_CERTIFICATE": flags[1], "LAYERTAP_TLS_KEY": flags[3]}
        assert check({**files, "LAYERTAP_METRICS_PORT": str(server.metrics_port)})
        assert not check({**files, "LAYERTAP_METRICS_PORT": "1"})


def test_mutual_tls(authority: Authority, flags: list[str]) -> None:
    client_ca = trustme.CA()
    client_ca.cert_pem.write_to_path(authority.folder / "clients.pem")
    ours, others = (ca.issue_cert("client") for ca in (client_ca, trustme.CA()))
    flags = [*flags, "--tls-client-authorities", str(authority.folder / "clients.pem")]

    def shows(issued: trustme.LeafCert) -> Tls:
        return Tls(authority.roots, issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())

    with running_server(*flags) as server:
        with Client(server.address, tls=shows(ours)) as client:
            assert client.models()
        for tls in (shows(others), Tls(authority.roots)):
            with Client(server.address, timeout_seconds=3, tls=tls) as wrong, pytest.raises(errors.UnavailableError):
                wrong.models()


def test_a_certificate_is_rotated_under_traffic(authority: Authority, flags: list[str]) -> None:
    """Use long-lived and new connections; the second authority replaces the first one."""
    successor = Authority(authority.folder, trustme.CA())
    both = authority.ca.cert_pem.bytes() + successor.ca.cert_pem.bytes()
    with running_server(*flags) as server:
        done, failures = threading.Event(), []

        def call(*, anew: bool) -> None:
            client = Client(server.address, tls=Tls(both))
            try:
                while not done.is_set():
                    if anew:
                        client.close()
                        client = Client(server.address, tls=Tls(both))
                    client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap -> v")
            except errors.LayertapError as error:
                failures.append(error)
            finally:
                client.close()

        threads = [threading.Thread(target=call, kwargs={"anew": anew}) for anew in (True, False)]
        for thread in threads:
            thread.start()
        successor.issue()
        for _ in range(100):
            if _serves_with(server, successor):
                break
            time.sleep(0.05)
        (authority.folder / "server.pem").write_text("half written")
        with Client(server.address, tls=Tls(both)) as client:
            client.models()  # the previous certificate remains in use
        Authority(authority.folder, trustme.CA()).issue("other")
        (authority.folder / "other.pem").replace(authority.folder / "server.pem")
        assert _serves_with(server, successor)  # key of another certificate, or the first half of a rotation
        successor.issue()
        time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join(30)
        assert failures == []
        assert _serves_with(server, successor)
        assert not _serves_with(server, authority)
        log = server.log.read_text()
        assert "the certificate files have changed" in log
        assert "the old certificate stays in use" in log
        assert "key values mismatch" in log


def _serves_with(server: ServerProcess, authority: Authority) -> bool:
    """Return whether a new connection that trusts only this authority accepts the server's certificate."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(authority.ca.cert_pem.bytes())
    with grpc.secure_channel(server.address, credentials, options) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return True


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ServerProcess]:
    """Start a server that requires tokens."""
    path = tmp_path / "tokens.yaml"
    path.write_text(TOKENS)
    with running_server("--tokens", str(path), "--control", "--reflection") as server:
        yield server


def test_tokens_and_roles(guarded: ServerProcess) -> None:
    with Client(guarded.address, token=SECRET) as client:
        assert client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)
        assert [item.error for item in client.extract_many([EXAMPLE_PHOTO] * 2, model=MODEL)] == [None] * 2
        with pytest.raises(errors.ForbiddenError, match="the token of team lacks the role control") as caught:
            client.load_model(MODEL)
        assert (caught.value.status, caught.value.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    with Client(guarded.address, token=CONTROL) as operator:
        assert operator.load_model("gabor_energy").name == "gabor_energy"
    metrics = guarded.metrics()
    assert re.search(r'requests_total\{method="LoadModel",.*status="PERMISSION_DENIED"\} 1.0', metrics)
    assert SECRET not in metrics + guarded.log.read_text()


@pytest.mark.parametrize("token", ["", "wrong", SECRET[:-1], SECRET + "x"], ids=["none", "wrong", "shorter", "longer"])
def test_who_has_no_token_is_told_before_anything_else(guarded: ServerProcess, token: str) -> None:
    """Send a wrong request; only a caller with a token learns what is wrong."""

    async def ask() -> None:
        async with AsyncClient(guarded.address, token=token) as client:
            with pytest.raises(errors.UnauthenticatedError):
                await client.models()

    with Client(guarded.address, token=token) as client:
        with pytest.raises(errors.UnauthenticatedError) as caught:
            client.extract(EXAMPLE_PHOTO, model="nothing")
        assert (caught.value.status, caught.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        with pytest.raises(errors.UnauthenticatedError):
            list(client.extract_many([EXAMPLE_PHOTO], model=MODEL))
    asyncio.run(ask())


def test_reflection_wants_a_token_and_probes_do_not(guarded: ServerProcess) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        reflect: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        with pytest.raises(grpc.RpcError) as caught:
            next(reflect(iter([b"\x3a\x01*"]), timeout=5))
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["/layertap.v1.FeatureService/Nothing", "/nobody.Service/Method"])
def test_who_has_no_token_does_not_learn_what_exists(guarded: ServerProcess, method: str) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        for metadata, expected in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", f"Bearer {SECRET}"),), grpc.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=5, metadata=metadata)
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is expected


def test_a_message_that_inflates_past_the_limit(server: ServerProcess) -> None:
    """Apply the limit of 64 MiB to the decompressed message, not to the bytes on the wire."""
    before = resident_bytes(server)
    with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
        extract: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/layertap.v1.FeatureService/Extract")
        with pytest.raises(grpc.RpcError) as caught:
            extract(bytes(600 * 2**20), timeout=60, compression=grpc.Compression.Gzip)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert resident_bytes(server) < before + 300 * 2**20
    with Client(server.address) as client:
        assert client.models()


def test_a_tokens_file_that_turns_bad_leaves_its_callers_in(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text("team: {token: a-token-for-extraction, roles: [extract]}")
    with (
        running_server("--tokens", str(tokens)) as server,
        Client(server.address, token="a-token-for-extraction") as client,
    ):
        assert client.models()
        tokens.write_text('a: !!int ""\n')
        until(lambda: client.models() and server.gauge("layertap_tokens_stale"))
        assert client.models()
        assert server.log.read_text().count("the former tokens remain valid: tokens.yaml, line 1, column 4") == 1
