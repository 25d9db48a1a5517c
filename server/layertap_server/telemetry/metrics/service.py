"""The registry of all metrics, and the metrics of requests, stages, batches, errors and caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from layertap.errors import ImageDecodeError, ImageTooLargeError, LayertapError, error_classes
from layertap.types import ModelInfo
from layertap_server.request.context import STAGES, RequestContext
from layertap_server.request.totals import TotalsByModel
from layertap_server.telemetry.metrics.children import Children
from layertap_server.telemetry.metrics.devices import DeviceCollector
from layertap_server.telemetry.metrics.models import ModelCollector
from layertap_server.telemetry.metrics.triton import TritonCollector

CollectorT = TypeVar("CollectorT", bound=Collector)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the buckets of durations, in seconds."""
IMAGES = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds of the buckets of batch sizes."""
DECODE_CAUSES = ("no_image", "damaged", "samples", "empty", "too_large")
"""Values of the label ``cause``."""
PLAN_EVENTS = ("hit", "miss", "reuse", "shrink", "eviction")
"""Events of the plan cache."""
RESPONSE_EVENTS = ("hit", "miss", "eviction")
"""Events of the response cache."""


class Metrics:
    """The server's metrics, on a registry of their own."""

    def __init__(self) -> None:
        """Create the metrics of requests and caches; those of models, devices and Triton are added later."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = self._counter(
            "requests", "Ended requests by gRPC status.", ["service", "method", "model", "status"]
        )
        self._seconds = self._histogram(
            "request_seconds", "Time from arrival to response.", SECONDS, ["service", "method"]
        )
        self._stages = self._histogram(
            "stage_seconds", "Time of requests for features and of stream items in each stage.", SECONDS, ["stage"]
        )
        self._bytes_in = self._counter("request_bytes", "Bytes of received messages.", ["service", "method"])
        self._bytes_out = self._counter("response_bytes", "Bytes of sent messages.", ["service", "method"])
        self._bytes_shared = Counter(
            "layertap_shared_memory_bytes", "Bytes written into callers' shared memory.", registry=self.registry
        )
        self._items = self._counter("stream_items", "Ended stream items by gRPC status.", ["model", "status"])
        self._images = self._counter("images", "Images whose features were extracted.", ["model"])
        self._batches = self._histogram("batch_images", "Images per run of a model.", IMAGES, ["model"])
        self._errors = self._counter(
            "errors",
            "Errors returned to callers, including those of stream items.",
            ["reason"],
        )
        self._decode_failures = self._counter("decode_failures", "Images that could not be decoded.", ["cause"])
        self._plans = self._counter("plan_cache", "Plan cache events.", ["event"])
        self._responses = self._counter("response_cache", "Response cache events.", ["event"])
        self._models: ModelCollector | None = None
        self._devices: DeviceCollector | None = None
        self.totals = TotalsByModel()
        """Totals of each model, for the names of Triton and the Open Inference Protocol."""
        self._create_series()

    def expect(self, service: str, method: str) -> None:
        """Create the series of a method at 0, so that rates are defined before the first error."""
        for status in ("OK", "INTERNAL"):
            self._requests.of(service, method, "", status)
        self._seconds.of(service, method)
        self._bytes_in.of(service, method)
        self._bytes_out.of(service, method)

    def count_ended(self, record: RequestContext) -> None:
        """Count an ended request or stream item."""
        if record.parent is None:
            self._count_request(record)
        else:
            self._items.of(record.model, record.status).inc()
        self._bytes_in.of(record.service, record.method).inc(record.bytes_in)
        self._bytes_out.of(record.service, record.method).inc(record.bytes_out)
        if not record.quick:
            self._count_work(record)
        if record.failure is not None:
            self._count_failure(record.failure)
        self.totals.count_ended(record)

    def count_plan_event(self, event: str) -> None:
        """Count an event of the plan cache: one of `PLAN_EVENTS`."""
        self._plans.of(event).inc()

    def count_response_event(self, event: str) -> None:
        """Count an event of the response cache: one of `RESPONSE_EVENTS`."""
        self._responses.of(event).inc()

    def count_load(self, model: ModelInfo, seconds: float) -> None:
        """Count an attempt to load a version of a model, successful or failed, and its duration."""
        if self._models is not None:
            self._models.count_load(model, seconds)

    def add_gauge(self, name: str, doc: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed at each scrape."""
        Gauge(name, doc, registry=self.registry).set_function(value)

    def add_info(self, **facts: str) -> None:
        """Add the metric ``layertap_info``, whose labels describe the server."""
        doc = "Always 1; the labels describe the server."
        Gauge("layertap_info", doc, list(facts), registry=self.registry).labels(**facts).set(1)

    def watch_models(self, infos: Callable[[], Sequence[ModelInfo]]) -> None:
        """Add the metrics of the models that ``infos`` returns at each scrape."""
        self._models = self._register_collector(ModelCollector(infos))

    def watch_devices(self) -> None:
        """Add the metrics of NVIDIA devices, which are empty without the driver's library."""
        self._devices = self._register_collector(DeviceCollector())

    def add_triton_names(self) -> None:
        """Add the metrics under the names of Triton Inference Server.

        Call this after `watch_models` and `watch_devices`, whose values it repeats.
        """
        self._register_collector(TritonCollector(self.totals, self._models, self._devices))

    def _count_request(self, record: RequestContext) -> None:
        """Count an ended request and its duration."""
        self._requests.of(record.service, record.method, record.model, record.status).inc()
        self._seconds.of(record.service, record.method).observe(record.seconds)

    def _count_work(self, record: RequestContext) -> None:
        """Count the stages, runs and images of an ended request for features or stream item."""
        for stage, seconds in record.seconds_by_stage().items():
            self._stages.of(stage).observe(seconds)
        for images in record.runs:
            self._batches.of(record.model).observe(images)
        if record.images and not record.is_stream:  # the images of a stream are counted with its items
            self._images.of(record.model).inc(record.images)
        if record.bytes_shared:
            self._bytes_shared.inc(record.bytes_shared)

    def _count_failure(self, failure: LayertapError) -> None:
        """Count an error by its reason, and an image that could not be decoded by its cause."""
        self._errors.of(failure.reason).inc()
        if isinstance(failure, ImageDecodeError):
            self._decode_failures.of(failure.metadata.get("cause", "empty")).inc()
        elif isinstance(failure, ImageTooLargeError):
            self._decode_failures.of("too_large").inc()

    def _create_series(self) -> None:
        """Create the series with known labels at 0, so that rates are defined before the first event."""
        for cls in error_classes():
            self._errors.of(cls.reason)
        for metric, values in (
            (self._decode_failures, DECODE_CAUSES),
            (self._plans, PLAN_EVENTS),
            (self._responses, RESPONSE_EVENTS),
        ):
            for value in values:
                metric.of(value)
        for stage in STAGES:
            self._stages.of(stage)
        self._items.of("", "OK")
        self._images.of("")

    def _counter(self, name: str, doc: str, labels: list[str]) -> Children[Counter]:
        """Create a counter with labels."""
        return Children(Counter(f"layertap_{name}", doc, labels, registry=self.registry))

    def _histogram(self, name: str, doc: str, buckets: Sequence[float], labels: list[str]) -> Children[Histogram]:
        """Create a histogram with labels."""
        return Children(Histogram(f"layertap_{name}", doc, labels, buckets=buckets, registry=self.registry))

    def _register_collector(self, collector: CollectorT) -> CollectorT:
        """Register a collector and return it."""
        self.registry.register(collector)
        return collector
