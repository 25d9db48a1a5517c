"""Test spans of a real server process with a collector that speaks OTLP over gRPC."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from layertap import Client, wire
from layertap.types import Array, EncodedImage, ExtractRequest
from tests.paths import MODEL, PHOTOS
from tests.processes import running_server, serve_command

PHOTO = (PHOTOS / "coffee.png").read_bytes()
EXTRACT = "/layertap.v1.FeatureService/Extract"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(collector_grpc.TraceServiceServicer):
    """A collector that keeps all spans."""

    def __init__(self) -> None:
        """Create a collector without spans."""
        self.spans: list[trace_pb2.Span] = []
        self.resources: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - name and arguments given by gRPC
        """Store the spans of a request."""
        with self._lock:
            for spans in request.resource_spans:
                self.resources.append(attributes(spans.resource.attributes))
                for scope in spans.scope_spans:
                    self.spans += scope.spans
        return collector_pb.ExportTraceServiceResponse()

    def named(self, name: str) -> list[trace_pb2.Span]:
        """Return the spans with this name."""
        return [span for span in self.spans if span.name == name]

    def children(self, span: trace_pb2.Span) -> list[trace_pb2.Span]:
        """Return the child spans of a span."""
        return [child for child in self.spans if child.parent_span_id == span.span_id]


def attributes(pairs: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Collector, str]]:
    """Yield a collector and its address; the server exports pending spans when it stops, at the latest."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "features-of-a-test")
    servicer, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    collector_grpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def extract(channel: grpc.Channel, tap: str, flags: str = "01") -> None:
    """Send a request with a trace context."""
    request = wire.encode_extract_request(ExtractRequest(MODEL, (EncodedImage(PHOTO),), (tap,)))
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
    headers = (("traceparent", f"00-{TRACE}-{CALLER}-{flags}"),)
    try:
        call(request.SerializeToString(), metadata=headers, timeout=30)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_span_a_request_below_the_callers_and_one_a_stage(collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    with running_server("--otlp-endpoint", endpoint) as server, grpc.insecure_channel(server.address) as channel:
        extract(channel, "stage:1 | gap")
        extract(channel, "nothing")
        extract(channel, "stage:2 | gap", flags="00")  # not sampled by the caller
    good, bad = received.named("layertap.v1.FeatureService/Extract")
    for span in (good, bad):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
        assert span.kind == trace_pb2.Span.SPAN_KIND_SERVER
        assert span.status.code == trace_pb2.Status.STATUS_CODE_UNSET  # a caller's error is not a server error
    told = attributes(good.attributes)
    assert (told["rpc.system"], told["rpc.method"], told["rpc.grpc.status_code"]) == ("grpc", "Extract", 0)
    assert (told["layertap.model"], told["layertap.images"]) == (MODEL, 1)
    assert attributes(bad.attributes)["error.type"] == "UNKNOWN_LAYER"

    stages = received.children(good)
    assert {span.name for span in stages} == {"admission", "queue", "decode", "plan", "batch", "compute", "encode"}
    assert "compute" not in {span.name for span in received.children(bad)}
    for span in stages:
        assert span.trace_id.hex() == TRACE
        assert good.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= good.end_time_unix_nano
    assert {resource["service.name"] for resource in received.resources} == {"features-of-a-test"}
    # Less than a thousandth of the photograph's size, so spans contain no images or tensors.
    assert sum(span.ByteSize() for span in received.spans) < max(len(PHOTO) // 10, 20_000)


def test_items_of_a_stream_are_below_it(collector: tuple[Collector, str], cat: Array) -> None:
    received, endpoint = collector
    with running_server("--otlp-endpoint", endpoint) as server, Client(server.address) as client:
        assert len(list(client.extract_many([cat] * 120, model=MODEL, taps="stage:1 | gap"))) == 120
    (stream,) = received.named("layertap.v1.FeatureService/ExtractStream")
    items = [span for span in received.children(stream) if span.name == "item"]
    assert len(items) == 100  # further items have no spans of their own
    assert {"queue", "decode", "compute"} <= {span.name for span in received.children(items[0])}


def test_a_collector_that_is_gone_harms_nobody(cat: Array) -> None:
    with (
        running_server("--otlp-endpoint", "http://127.0.0.1:1") as server,
        Client(server.address) as client,
    ):
        assert client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)


def test_without_the_packages_it_does_not_start() -> None:
    """Start a process in which the packages cannot be imported."""
    command = serve_command("--otlp-endpoint", "http://127.0.0.1:1")
    hidden = f"import sys; sys.modules['opentelemetry'] = None; sys.argv = {command[2:]!r}; import runpy; "
    code = hidden + "runpy.run_module('layertap_server', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "layertap: --otlp-endpoint needs the package opentelemetry: pip install 'layertap[otel]'\n"


def test_where_nobody_asks_for_traces_nothing_is_imported() -> None:
    code = "import sys, layertap_server.lifecycle; print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
