"""Requests, stages, batches, bytes, errors and caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from layertap.errors import ImageDecodeError, ImageTooLargeError, LayertapError, error_classes
from layertap.types import ModelInfo
from layertap_server.request.context import STAGES, RequestContext
from layertap_server.telemetry.metrics.children import Children
from layertap_server.telemetry.metrics.devices import DeviceCollector
from layertap_server.telemetry.metrics.models import ModelCollector
from layertap_server.telemetry.metrics.triton import TritonCollector

CollectorT = TypeVar("CollectorT", bound=Collector)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
DECODE_CAUSES = ("no_image", "damaged", "samples", "empty", "too_large")
PLAN_EVENTS = ("hit", "miss", "reuse", "shrink", "eviction")
RESPONSE_EVENTS = ("hit", "miss", "eviction")


class Metrics:
    """The service's metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests answered.", ["service", "method", "model", "status"])
        self._seconds = self._histogram("request_seconds", "From arrival to answer.", SECONDS, ["service", "method"])
        self._stages = self._histogram(
            "stage_seconds", "Where requests for features, and items of streams, spend their time.", SECONDS, ["stage"]
        )
        self._bytes_in = self._counter("request_bytes", "Bytes of messages that came in.", ["service", "method"])
        self._bytes_out = self._counter("response_bytes", "Bytes of messages that went out.", ["service", "method"])
        self._bytes_shared = Counter(
            "layertap_shared_memory_bytes", "Bytes written into callers' shared memory.", registry=self.registry
        )
        self._items = self._counter("stream_items", "Items of streams answered.", ["model", "status"])
        self._images = self._counter("images", "Images whose features were extracted.", ["model"])
        self._batches = self._histogram("batch_images", "Images of each run of a model.", IMAGES, ["model"])
        self._errors = self._counter(
            "errors",
            "Errors told to callers, those of streams' items too, by their reason.",
            ["reason"],
        )
        self._decode_failures = self._counter("decode_failures", "Images that could not be decoded.", ["cause"])
        self._plans = self._counter("plan_cache", "Plan cache events.", ["event"])
        self._responses = self._counter("response_cache", "Response cache events.", ["event"])
        self._models: ModelCollector | None = None
        self._devices: DeviceCollector | None = None
        self._triton: TritonCollector | None = None
        self._begin_at_zero()

    def expect(self, service: str, methods: Iterable[str]) -> None:
        """Lets the series of these methods begin at 0, so that a rate is there before the first error is."""
        for method in methods:
            for status in ("OK", "INTERNAL"):
                self._requests.of(service, method, "", status)
            self._seconds.of(service, method)
            self._bytes_in.of(service, method)
            self._bytes_out.of(service, method)

    def ended(self, record: RequestContext) -> None:
        """A request, or an item of a stream, has ended."""
        if record.parent is None:
            self._request_ended(record)
        else:
            self._items.of(record.model, record.status).inc()
        self._bytes_in.of(record.service, record.method).inc(record.bytes_in)
        self._bytes_out.of(record.service, record.method).inc(record.bytes_out)
        if not record.quick:
            self._worked(record)
        if record.failure is not None:
            self._failed(record.failure)
        if self._triton is not None:
            self._triton.ended(record)

    def plan(self, event: str) -> None:
        """A plan was a "hit", a "miss" or a "reuse", had to "shrink", or met its "eviction"."""
        self._plans.of(event).inc()

    def response(self, event: str) -> None:
        """An answer was a "hit" or a "miss", or met its "eviction"."""
        self._responses.of(event).inc()

    def loaded(self, model: ModelInfo, seconds: float) -> None:
        """A version of a model was loaded, or failed to."""
        if self._models is not None:
            self._models.loaded(model, seconds)

    def gauge(self, name: str, doc: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is scraped."""
        Gauge(name, doc, registry=self.registry).set_function(value)

    def info(self, **facts: str) -> None:
        """What this server is, as labels."""
        Gauge("layertap_info", "What this server is.", list(facts), registry=self.registry).labels(**facts).set(1)

    def watch_models(self, infos: Callable[[], Sequence[ModelInfo]]) -> None:
        """Tells of the models that ``infos`` lists when it is scraped."""
        self._models = self._registered(ModelCollector(infos))

    def watch_devices(self) -> None:
        """Tells of NVIDIA's devices, where their library can be asked."""
        self._devices = self._registered(DeviceCollector())

    def offer_triton_names(self) -> None:
        """Tells the same once more under the names that Triton's dashboards ask for; last of the things watched."""
        self._triton = self._registered(TritonCollector(self._models, self._devices))

    def _request_ended(self, record: RequestContext) -> None:
        self._requests.of(record.service, record.method, record.model, record.status).inc()
        self._seconds.of(record.service, record.method).observe(record.seconds)

    def _worked(self, record: RequestContext) -> None:
        for stage, seconds in record.seconds_by_stage().items():
            self._stages.of(stage).observe(seconds)
        for images in record.runs:
            self._batches.of(record.model).observe(images)
        if record.images and not record.is_stream:  # a stream's images are those of its items
            self._images.of(record.model).inc(record.images)
        if record.bytes_shared:
            self._bytes_shared.inc(record.bytes_shared)

    def _failed(self, failure: LayertapError) -> None:
        self._errors.of(failure.reason).inc()
        if isinstance(failure, ImageDecodeError):
            self._decode_failures.of(failure.metadata.get("cause", "empty")).inc()
        elif isinstance(failure, ImageTooLargeError):
            self._decode_failures.of("too_large").inc()

    def _begin_at_zero(self) -> None:
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
        return Children(Counter(f"layertap_{name}", doc, labels, registry=self.registry))

    def _histogram(self, name: str, doc: str, buckets: Sequence[float], labels: list[str]) -> Children[Histogram]:
        return Children(Histogram(f"layertap_{name}", doc, labels, buckets=buckets, registry=self.registry))

    def _registered(self, collector: CollectorT) -> CollectorT:
        self.registry.register(collector)
        return collector
