"""Export of requests as OpenTelemetry spans.

Each request is a span; its stages and its stream items are child spans. Spans are created from the request context
after the request has ended, so that tracing costs nothing while it runs. They contain no image, tensor or tap. This
module is imported only if traces are enabled, because its packages are an optional extra.
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

MAX_EXPORTED_ITEMS = 100
"""Maximum number of items of one stream that are exported; the number of items of a stream is unlimited."""
CLOSE_SECONDS = 3.0
"""Maximum seconds that the end of the process waits for the collector."""
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Statuses that mark a server span as failed, by OpenTelemetry's semantic conventions for gRPC."""


class Traces:
    """Exporter that sends spans to a collector in batches, from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        """Create the exporter.

        Args:
            endpoint: OTLP endpoint such as ``http://host:4317``, or ``https://`` for TLS. OpenTelemetry's ``OTEL_…``
                environment variables set everything else.
        """
        resource = Resource.create({SERVICE_NAME: "layertap"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("layertap_server")
        self._propagator = TraceContextTextMapPropagator()
        self._items: dict[RequestContext, list[RequestContext]] = {}
        """Ended items of the open streams."""

    def export_ended(self, record: RequestContext) -> None:
        """Export an ended request; keep an ended item until its stream ends."""
        if record.parent is not None:
            items = self._items.setdefault(record.parent, [])
            if len(items) < MAX_EXPORTED_ITEMS:
                items.append(record)
            return
        caller = self._propagator.extract(dict(record.trace_headers))
        self._span(record, f"{record.service}/{record.method}", trace.SpanKind.SERVER, caller)
        self._items.pop(record, None)

    def close(self) -> None:
        """Send the remaining spans, for at most `CLOSE_SECONDS`."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _span(self, record: RequestContext, name: str, kind: trace.SpanKind, parent: Context) -> None:
        """Export a request or an item as a span, with its stages and items as child spans."""
        span = self._tracer.start_span(name, parent, kind, _attributes(record), start_time=record.began_ns)
        if span.is_recording():  # false if the sampler has dropped the span
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
    """Convert a time of ``time.perf_counter`` in seconds to nanoseconds since 1970."""
    return record.began_ns + round((seconds - record.began) * 1e9)


def _attributes(record: RequestContext) -> dict[str, AttributeValue]:
    """Return the attributes of a span."""
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
