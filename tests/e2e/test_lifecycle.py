"""Test starting, stopping and failing to start."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from layertap import Client, _calls, errors, wire
from layertap.images import to_payloads
from layertap.types import Array, ExtractRequest
from layertap.wire import rpcs
from tests.paths import MODEL, MODELS
from tests.processes import ServerProcess, running_server, serve_command, until


def start_and_fail(*flags: str, models: Path = MODELS) -> str:
    """Return the standard error of a server that does not start."""
    done = subprocess.run(serve_command(*flags, models=models), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def only_line(text: str) -> str:
    """Return the text's only line."""
    (line,) = text.splitlines()
    assert line.startswith("layertap: ")
    return line


def test_a_port_that_is_taken(server: ServerProcess) -> None:
    port = server.address.rsplit(":", 1)[1]
    assert f"cannot listen on 127.0.0.1:{port}" in only_line(start_and_fail("--port", port))


def test_a_metrics_port_that_is_taken(server: ServerProcess) -> None:
    line = only_line(start_and_fail("--metrics-port", str(server.metrics_port)))
    assert f"cannot listen on 127.0.0.1:{server.metrics_port} for metrics" in line


def test_a_models_folder_that_is_missing(tmp_path: Path) -> None:
    text = start_and_fail(models=tmp_path / "gone")
    assert text.strip() == f"layertap: the models folder {tmp_path / 'gone'} does not exist; name one with --models"


@pytest.mark.skipif(
    any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has a GPU: tests/gpu look at what works there"
)
def test_cuda_without_cuda() -> None:
    text = start_and_fail("--device", "cuda")
    assert text.strip().startswith("layertap: device cuda: ")
    assert text.strip().endswith("use --device cpu, or auto to take what there is")
    assert text.count("\n") == 1


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="a build of onnxruntime without CUDA"
)
def test_auto_says_what_it_took() -> None:
    with running_server("--device", "auto") as process:
        assert "(CPU)" in process.banner or "(CUDA:0)" in process.banner


def test_wrong_usage_is_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "layertap_server", "--prot", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_requests_under_way_end(number: signal.Signals, cat: Array) -> None:
    """Send requests until the server is gone: admitted ones are answered, all others refused."""
    answered: list[Array] = []
    refused: list[errors.LayertapError] = []
    stopping = threading.Event()

    def load(address: str) -> None:
        with Client(address, grpc_options=[("grpc.enable_retries", 0)]) as client:
            while True:
                try:
                    answered.append(client.extract([cat] * 4, model=MODEL, taps="embedding")["embedding"])
                except errors.LayertapError as error:
                    assert stopping.is_set(), error
                    refused.append(error)
                    return

    with running_server() as process, ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(load, process.address) for _ in range(4)]
        while len(answered) < 8:
            time.sleep(0.01)
        stopping.set()
        process.process.send_signal(number)
        assert process.process.wait(timeout=30) == 0
        for caller in callers:
            caller.result(timeout=30)
    assert all(isinstance(error, errors.UnavailableError) for error in refused), refused
    for array in answered:
        np.testing.assert_allclose(array, answered[0], rtol=1e-4, atol=1e-4)


def slow_way(server_port: int, bytes_a_second: int) -> int:
    """Yield the port of a proxy that delivers responses this slowly."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, seconds_a_byte: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
                time.sleep(len(data) * seconds_a_byte)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", server_port))
                threading.Thread(target=carry, args=(caller, server, 0), daemon=True).start()
                threading.Thread(target=carry, args=(server, caller, 1 / bytes_a_second), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def test_a_stop_lets_an_answer_arrive(cat: Array) -> None:
    """Stop the server when the work has ended but the response is still being sent."""
    with running_server() as process:
        port = slow_way(int(process.address.rpartition(":")[2]), 4_000_000)
        with Client(process.address) as client:
            expected = client.extract([cat] * 20, model=MODEL, taps="stage:1")
        large = [("grpc.max_receive_message_length", -1)]
        with ThreadPoolExecutor(1) as pool, grpc.insecure_channel(f"127.0.0.1:{port}", large) as channel:
            # One response instead of a stream, since the server counts open streams and waits for them.
            call = _calls.extract(ExtractRequest(MODEL, to_payloads([cat] * 20), ("stage:1",)))
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(call.method)
            answer = pool.submit(method, call.request, 60)
            process.wait_until_busy()
            until(lambda: process.gauge("layertap_requests_admitted") == 0)
            process.process.terminate()
            assert len(answer.result(60)) > expected["stage:1"].nbytes > 15_000_000
        assert process.process.wait(timeout=30) == 0


def test_a_second_signal_stops_at_once(cat: Array) -> None:
    with running_server(status=128 + signal.SIGTERM) as process, Client(process.address) as client:
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(client.extract, [cat] * 64, model=MODEL, taps="stage:5 | lcn(31) | gap")
            process.wait_until_busy()
            process.process.terminate()
            while "stopping" not in process.log.read_text():
                time.sleep(0.01)
            process.process.terminate()
            process.process.wait(timeout=10)
            with pytest.raises(errors.UnavailableError):
                work.result(timeout=30)
        assert "stopped at once by a second signal" in process.log.read_text()


def test_what_is_open_and_idle_does_not_hold_up_a_stop(cat: Array) -> None:
    """Keep a health watch and idle streams open."""
    with running_server() as process, grpc.insecure_channel(process.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(rpcs.EXTRACT_STREAM.path)
        request = ExtractRequest(MODEL, to_payloads(cat), ("stage:1 | gap",))
        quiet = threading.Event()

        def messages(count: int) -> Iterator[bytes]:
            yield wire.encode_stream_open(request)
            for number in range(count):
                yield wire.encode_stream_batch(str(number), request)
            quiet.wait(60)

        streams = [stream(messages(count)) for count in (0, 2)]
        assert [len([next(answers) for _ in range(count)]) for answers, count in zip(streams, (1, 3), strict=True)]
        process.process.terminate()
        assert process.process.wait(timeout=12) == 0
        quiet.set()


def test_a_stop_while_models_load_is_heard() -> None:
    command = serve_command("--log-level", "info")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    while "efficientnet_lite0" not in process.stderr.readline():
        pass
    process.terminate()
    assert process.wait(timeout=20) in {0, 128 + signal.SIGTERM}
    process.communicate()


def test_an_open_address_is_told_and_control_on_it_refused() -> None:
    line = only_line(start_and_fail("--host", "0.0.0.0", "--control").splitlines()[-1])
    assert "--control on 0.0.0.0 would let everyone who reaches the port load and unload models" in line
    with running_server("--host", "0.0.0.0") as process:
        assert "may use the service: no tokens, no mTLS" in process.log.read_text()
    with running_server() as process:
        assert "may use the service" not in process.log.read_text()


def test_wrong_files_of_tokens_and_certificates(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("a: {token: short}")
    assert "wrong, line 1: a token needs at least 16" in only_line(start_and_fail("--tokens", str(wrong)))
    tls = ["--tls-certificate", str(wrong), "--tls-key", str(tmp_path / "gone")]
    assert "wrong has no certificate in PEM" in only_line(start_and_fail(*tls[:3], str(wrong)))
    assert "gone: No such file" in only_line(start_and_fail(*tls))


def test_health_says_not_serving_while_it_stops(cat: Array) -> None:
    with (
        running_server() as process,
        Client(process.address) as client,
        grpc.insecure_channel(process.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        statuses: Iterator[health_pb2.HealthCheckResponse] = iter(watch)
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(client.extract, [cat] * 32, model=MODEL, taps="embedding")
            process.wait_until_busy()
            process.process.terminate()
            assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            assert work.result(timeout=30)["embedding"].shape == (32, 1280)
