"""Test reaching a server: wrong addresses, other servers, proxies, mismatched TLS, and servers that start later."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from layertap import AsyncClient, Client, Tls, errors
from tests.paths import MODEL, MODELS
from tests.processes import ServerProcess, free_port, serve_command

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


class Refusing(http.server.BaseHTTPRequestHandler):
    """A web server or proxy that answers every request with an error and counts the requests."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""

    def do_CONNECT(self) -> None:
        """Answer with an error."""
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(502)


@contextlib.contextmanager
def web_server() -> Iterator[http.server.ThreadingHTTPServer]:
    """Start the web server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def other_service(*, tls: trustme.LeafCert | None = None) -> Iterator[str]:
    """Start a gRPC server with another service."""
    server = grpc.server(ThreadPoolExecutor(2))
    if tls:
        pair = tls.private_key_pem.bytes(), tls.cert_chain_pems[0].bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@contextlib.contextmanager
def listening(end: Callable[[socket.socket], None] | None = None) -> Iterator[str]:
    """Listen on a port that never answers, or that closes each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    end(listener.accept()[0])  # type: ignore[misc]

        if end:
            threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def error_at(address: str, tls: Tls | bool = False) -> errors.LayertapError:
    """Return the error that both clients raise."""

    async def ask() -> None:
        async with AsyncClient(address, timeout_seconds=3, tls=tls) as client:
            await client.models()

    with pytest.raises(errors.LayertapError) as caught, Client(address, timeout_seconds=3, tls=tls) as client:
        client.models()
    with pytest.raises(errors.LayertapError) as twin:
        asyncio.run(ask())
    assert (type(twin.value), str(twin.value)) == (type(caught.value), str(caught.value))
    for error in (caught.value, twin.value):  # a single exception without gRPC's in its chain
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
    assert "\n" not in str(caught.value)
    return caught.value


def test_no_server() -> None:
    port = free_port()
    error = error_at(f"127.0.0.1:{port}")
    assert type(error) is errors.UnavailableError
    assert str(error).startswith(f"no server answers at 127.0.0.1:{port}")
    assert "layertap serve" in str(error)


def test_no_such_host() -> None:
    error = error_at("nowhere.invalid")
    assert type(error) is errors.UnavailableError
    assert "nowhere.invalid:8001" in str(error)


def test_a_web_server() -> None:
    with web_server() as server:
        # A name has several addresses, of which gRPC names any one: the answer must not depend on that.
        found = [error_at(f"{host}:{server.server_port}") for host in ("127.0.0.1", *["localhost"] * 6)]
    for error in found:
        assert type(error) is errors.WrongServerError
        assert "no gRPC server" in str(error)


def test_another_grpc_service() -> None:
    with other_service() as address:
        error = error_at(address)
    assert type(error) is errors.WrongServerError
    assert f"the server at {address} is no Layertap server" in str(error)


def test_a_port_that_says_nothing() -> None:
    with listening() as address:
        error = error_at(address)
    assert type(error) is errors.DeadlineError
    assert address in str(error)


def test_a_port_that_ends_each_connection() -> None:
    with listening(end=lambda connection: connection.close()) as address:
        error = error_at(address)
    assert type(error) is errors.UnavailableError
    assert f"{address} closes each connection" in str(error)


def test_tls_that_does_not_fit(server: ServerProcess) -> None:
    authority = trustme.CA()
    roots = Tls(roots=authority.cert_pem.bytes())
    assert "does not speak TLS" in str(error_at(server.address, tls=True))
    with other_service(tls=authority.issue_cert("elsewhere.example")) as address:
        assert "does it require TLS" in str(error_at(address))
        assert "--tls-roots" in str(error_at(f"https://{address}"))
        assert "for another name" in str(error_at(address, tls=roots))
        named = Tls(roots=authority.cert_pem.bytes(), server_name="elsewhere.example")
        assert "no Layertap server" in str(error_at(address, tls=named))


@pytest.mark.parametrize(
    "form", ["http://127.0.0.1:{}", "http://localhost:{}/", "grpc://127.0.0.1:{}", "dns:127.0.0.1:{}"]
)
def test_forms_of_an_address(server: ServerProcess, form: str) -> None:
    with Client(form.format(server.address.rpartition(":")[2])) as client:
        assert [model.name for model in client.models()]


@pytest.mark.parametrize("variable", PROXIES)
def test_no_proxy_stands_before_this_host(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    port = server.address.rpartition(":")[2]
    with web_server() as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        for name in ("localhost", "127.0.0.1"):
            with Client(f"{name}:{port}", timeout_seconds=20) as client:
                assert client.models()
        assert cli("models", "--server", f"localhost:{port}").returncode == 0
        assert cli("models", "--local", "--models", str(MODELS)).returncode == 0
        assert proxy.asked == []  # type: ignore[attr-defined]
        if variable != "all_proxy":  # gRPC ignores this variable
            error = error_at("layertap.example:8001")
            assert proxy.asked  # type: ignore[attr-defined]
            assert "proxy" in str(error)


def cli(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "layertap.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def test_the_command_line_says_one_line() -> None:
    with web_server() as web, other_service() as other, listening(end=lambda connection: connection.close()) as closing:
        for address in ("127.0.0.1:1", f"127.0.0.1:{web.server_port}", other, closing, f"https://{other}", "a:b"):
            done = cli("models", "--server", address, "--timeout", "5")
            assert (done.returncode, done.stdout) == (1, "")
            assert re.fullmatch(r"layertap: [^\n]+\n", done.stderr), done.stderr


def test_waiting_for_a_server_that_starts_later() -> None:
    """Start the clients before the server listens."""
    port = free_port()
    address = f"127.0.0.1:{port}"

    async def ask() -> list[str]:
        async with AsyncClient(address, wait_seconds=120) as client:
            return [model.name for model in await client.models()]

    async def ask_without_context() -> list[str]:
        client = AsyncClient(address, wait_seconds=120)
        try:
            results = await asyncio.gather(client.models(), client.models())
            return [model.name for model in results[1]]
        finally:
            await client.close()

    def ask_plainly() -> list[str]:
        with Client(address, wait_seconds=120) as client:
            return [model.name for model in client.models()]

    def ask_by_command() -> list[str]:
        done = cli("models", "--server", address, "--wait", "120", timeout=200)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split()[0] for line in done.stdout.splitlines()[1:]]

    with ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(ask_plainly),
            pool.submit(ask_by_command),
            pool.submit(lambda: asyncio.run(ask())),
            pool.submit(lambda: asyncio.run(ask_without_context())),
        ]
        command = [*serve_command(models=MODELS), "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                for answer in answers:
                    assert MODEL in answer.result(timeout=200)
            finally:
                process.terminate()


def test_a_server_that_is_not_ready_is_waited_for() -> None:
    """Use a server that answers but reports its health as not serving."""
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(errors.LayertapError, match="waited 1 seconds"):
            Client(f"127.0.0.1:{port}", wait_seconds=1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: Client(f"127.0.0.1:{port}", wait_seconds=60))
            assert not waiting.done()
            servicer.set("", health_pb2.HealthCheckResponse.SERVING)
            waiting.result(timeout=60).close()
    finally:
        server.stop(0).wait()


def test_the_end_of_waiting_says_why() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(errors.UnavailableError, match=f"waited 0.5 seconds .*: no server answers at {address}"):
        Client(address, wait_seconds=0.5)
    done = cli("models", "--server", address, "--wait", "0.5")
    assert done.returncode == 1
    assert done.stderr.startswith("layertap: waited 0.5 seconds")


def test_the_unix_socket_of_nobody(tmp_path: Path) -> None:
    assert "no server answers at unix:" in str(error_at(f"unix:{tmp_path}/none.sock"))


def test_an_environment_with_a_log_of_grpc_is_left_alone() -> None:
    program = "import os, layertap; print(os.environ.get('GRPC_VERBOSITY'))"
    for value in (None, "DEBUG"):
        environment = {key: text for key, text in os.environ.items() if key != "GRPC_VERBOSITY"}
        environment |= {"GRPC_VERBOSITY": value} if value else {}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert done.stdout.strip() == str(value)
