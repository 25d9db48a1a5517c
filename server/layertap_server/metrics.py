"""What an operator watches, as Prometheus metrics. No label's value comes from a caller's text."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from layertap.types import Timing

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The service's metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "layertap_requests", "Requests answered.", ["service", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "layertap_request_seconds",
            "From arrival to answer.",
            ["service", "method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "layertap_stage_seconds",
            "Where extract requests spend their time.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._images = Counter(
            "layertap_images", "Images whose features were extracted.", ["model"], registry=self.registry
        )
        self._plans = Counter("layertap_plan_cache", "Plan cache events.", ["event"], registry=self.registry)
        self._responses = Counter(
            "layertap_response_cache", "Response cache events.", ["event"], registry=self.registry
        )
        self._models = Gauge("layertap_models", "Models by state.", ["state"], registry=self.registry)

    def request(self, service: str, method: str, status: str, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(service, method, status).inc()
        self._seconds.labels(service, method).observe(seconds)

    def extracted(self, model: str, images: int, timing: Timing) -> None:
        """The features of so many images went out."""
        self._images.labels(model).inc(images)
        for stage, milliseconds in (
            ("queue", timing.queue_ms),
            ("decode", timing.decode_ms),
            ("compute", timing.compute_ms),
        ):
            self._stages.labels(stage).observe(milliseconds / 1000)

    def plan(self, event: str) -> None:
        """A plan was a "hit" or a "miss", or met its "eviction"."""
        self._plans.labels(event).inc()

    def response(self, event: str) -> None:
        """An answer was a "hit" or a "miss", or met its "eviction"."""
        self._responses.labels(event).inc()

    def models(self, state: str, count: int) -> None:
        self._models.labels(state).set(count)

    def gauge(self, name: str, doc: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is scraped."""
        Gauge(name, doc, registry=self.registry).set_function(value)
