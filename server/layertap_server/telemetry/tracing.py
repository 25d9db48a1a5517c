"""Requests as OpenTelemetry spans: one a request, one below it a stretch of a stage, and one an item of a stream.

Spans are made when a request has ended, of what its record tells: while it runs, tracing costs nothing. They hold no
image, no tensor and no tap. Imported only where an operator asks for traces: the packages are an extra.
"""

from __future__ import annotations

import threading

from google.rpc import code_pb2
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from layertap_server.request.context import RequestContext

MOST_ITEMS = 100
"""Items of one stream that get a span: a stream may have any number of them."""
CLOSE_SECONDS = 3.0
"""How long a collector that does not answer may hold up the end of the process."""
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Statuses that are errors of a server, as OpenTelemetry's conventions for gRPC have it; others are the caller's."""


class Traces:
    """Sends spans to a collector, in batches, from a thread of their own."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint`` is ``http://host:4317``, or ``https://`` for TLS; the SDK reads the ``OTEL_…`` variables."""
        resource = Resource.create({SERVICE_NAME: "layertap"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("layertap_server")
        self._propagator = TraceContextTextMapPropagator()
        self._items: dict[RequestContext, list[RequestContext]] = {}
        """Of the streams that are open."""

    def ended(self, record: RequestContext) -> None:
        """Makes the spans of a request; an item waits for its stream."""
        if record.parent is not None:
            items = self._items.setdefault(record.parent, [])
            if len(items) < MOST_ITEMS:
                items.append(record)
            return
        caller = self._propagator.extract(dict(record.trace_headers))
        self._span(record, f"{record.service}/{record.method}", trace.SpanKind.SERVER, caller)
        self._items.pop(record, None)

    def close(self) -> None:
        """Sends what waits."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _span(self, record: RequestContext, name: str, kind: trace.SpanKind, parent: Context) -> None:
        span = self._tracer.start_span(name, parent, kind, _attributes(record), start_time=record.began_ns)
        if span.is_recording():  # the sampler wants it
            inside = trace.set_span_in_context(span)
            for stage, start, end in record.stages:
                stretch = self._tracer.start_span(stage, inside, start_time=_wall_ns(record, start))
                stretch.end(_wall_ns(record, end))
            for item in self._items.get(record, ()):
                self._span(item, "item", trace.SpanKind.INTERNAL, inside)
            if record.status in FAULTS:
                span.set_status(trace.StatusCode.ERROR)
        span.end(_wall_ns(record, record.ended))


def _wall_ns(record: RequestContext, seconds: float) -> int:
    """An instant of ``time.perf_counter`` since 1970."""
    return record.began_ns + round((seconds - record.began) * 1e9)


def _attributes(record: RequestContext) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "rpc.system": "grpc",
        "rpc.service": record.service,
        "rpc.method": record.method,
        "rpc.grpc.status_code": code_pb2.Code.Value(record.status),
        "layertap.request_id": record.request_id,
        "layertap.bytes_in": record.bytes_in,
        "layertap.bytes_out": record.bytes_out,
    }
    if record.model:
        attributes |= {"layertap.model": record.model, "layertap.version": record.version}
    if record.images:
        attributes |= {"layertap.images": record.images, "layertap.batch_size": record.batch_size}
    if record.failure is not None:
        attributes["error.type"] = record.failure.reason
    return attributes
