"""Tests of the log's lines and of the thread that writes them."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import subprocess
import sys
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.wire import rpcs
from layertap_server.request.context import RequestContext
from layertap_server.rpc.call_metadata import host_of
from layertap_server.rpc.dispatch import Dispatcher
from layertap_server.rpc.worker_pool import QueueLimits
from layertap_server.telemetry import logs


@given(st.text())
def test_one_line_escapes_line_ends(text: str) -> None:
    line = logs.one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    if text.isprintable():
        assert line == text


def log_record(message: str, exc_info: object = None) -> logging.LogRecord:
    """Create a log record of level error."""
    return logging.LogRecord("name", logging.ERROR, "", 0, "%s", (message,), exc_info)  # type: ignore[arg-type]


def test_a_traceback_is_indented_and_its_text_escaped() -> None:
    error = RuntimeError("of a\nforged line \x1b[2J")
    made = log_record("broken", (RuntimeError, error, None))
    first, *rest = logs.ConsoleFormatter().format(made).split("\n")
    assert first.endswith("ERROR name: broken")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1].strip() == "forged line \\x1b[2J"
    assert "forged" in json.loads(logs.JsonFormatter().format(made))["exception"]


def test_lines_beyond_the_queue_limit_are_dropped_and_counted() -> None:
    lines: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = logs._DroppingHandler(lines)
    for number in range(5):
        handler.emit(log_record(str(number)))
    assert [lines.get().getMessage() for _ in range(2)] == ["0", "1"]
    handler.emit(log_record("5"))
    assert [lines.get().getMessage() for _ in range(2)] == ["3 lines were dropped: stderr is read too slowly", "5"]


WRITES = """
import logging
from layertap_server.telemetry import logs
with logs.configure("info", "console"):
    for _ in range({lines}):
        logging.info("x" * 100)
"""


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("lines", [2_000, 3 * logs.MAX_WAITING_LINES], ids=["room", "no room"])
def test_an_unread_stderr_does_not_delay_the_exit(lines: int, unbuffered: list[str]) -> None:
    command = [sys.executable, *unbuffered, "-c", WRITES.format(lines=lines)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_a_full_non_blocking_stderr_delays_nothing() -> None:
    program = "import os\nos.set_blocking(2, False)\n" + WRITES.format(lines=2_000)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_every_line_is_written_if_stderr_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES.format(lines=2_000)], capture_output=True, check=True)
    assert done.stderr.count(b"x" * 100 + b"\n") == 2_000


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:51234", "10.0.0.7"),
        ("ipv6:%5B::1%5D:51234", "::1"),
        ("ipv6:[fe80::1]:5", "fe80::1"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_a_peer_has_no_port(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_empty_fields_of_a_request_are_omitted() -> None:
    assert logs.fields(RequestContext(began=1.0, ended=1.5)) == {"status": "CANCELLED", "ms": 500}


def test_an_unexpected_error_is_logged_with_its_incident_id(capsys: pytest.CaptureFixture[str]) -> None:
    """Call a method with a defect on a real server."""

    def defect(_request: bytes, _context: RequestContext) -> bytes:
        raise KeyError("/a/path/of/the/server")

    async def fail() -> tuple[str, str]:
        dispatcher = Dispatcher(1, QueueLimits(1, 2**20), [logs.log_request])
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((dispatcher.service({rpcs.EXTRACT: defect}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                extract: Any = channel.unary_unary(rpcs.EXTRACT.path)
                await extract(b"", timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.details() or "", str(dict(error.trailing_metadata())["x-request-id"])
            finally:
                await server.stop(0)
                dispatcher.close()
        raise AssertionError("no error")

    with logs.configure("info", "json"):
        message, request_id = asyncio.run(fail())
    incident, line = (json.loads(text) for text in capsys.readouterr().err.splitlines())
    assert (incident["level"], line["level"]) == ("error", "info")
    assert line["incident"] in incident["message"]
    assert line["incident"] in message
    assert request_id in incident["message"]
    assert (line["request_id"], line["status"], line["reason"]) == (request_id, "INTERNAL", "FAULT")
    assert "/a/path" in incident["exception"]
    assert "/a/path" not in message
