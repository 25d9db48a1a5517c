"""Metrics under the names of Triton Inference Server, for existing dashboards.

The samples are untyped: prometheus_client would append ``_total`` to the names of counters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from layertap_server.request.context import RequestContext
from layertap_server.telemetry.metrics.devices import DeviceCollector
from layertap_server.telemetry.metrics.models import LABELS, ModelCollector
from layertap_server.telemetry.metrics.nvml import DeviceFigures

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Triton's values of the label ``reason``."""
REASON_OF_STATUS = {
    "RESOURCE_EXHAUSTED": "REJECTED",
    "UNAVAILABLE": "REJECTED",
    "DEADLINE_EXCEEDED": "REJECTED",
    "CANCELLED": "CANCELED",
    "INTERNAL": "BACKEND",
    "FAILED_PRECONDITION": "BACKEND",
}
"""Triton's reason for each gRPC status; OTHER for the statuses that are not listed."""
DURATIONS = {
    "nv_inference_queue_duration_us": ("admission", "queue", "batch"),
    "nv_inference_compute_input_duration_us": ("decode", "plan"),
    "nv_inference_compute_infer_duration_us": ("compute",),
    "nv_inference_compute_output_duration_us": ("encode",),
}
"""Stages of Layertap whose durations add up to each of Triton's durations."""
DEVICE_FIGURES: dict[str, Callable[[DeviceFigures], float | None]] = {
    "nv_gpu_utilization": lambda device: device.utilization,
    "nv_gpu_memory_total_bytes": lambda device: device.memory_total_bytes,
    "nv_gpu_memory_used_bytes": lambda device: device.memory_used_bytes,
    "nv_gpu_power_usage": lambda device: device.power_watts,
}
"""Value of each of Triton's metrics of a device."""
DOC = "As defined by Triton Inference Server."
"""Help text of the metrics."""


@dataclass(slots=True)
class _Sums:
    """Totals of one version of one model."""

    success: int = 0
    """Number of successful requests."""
    images: int = 0
    """Number of images computed."""
    runs: int = 0
    """Number of runs of the model."""
    request_us: float = 0.0
    """Duration of successful requests, in microseconds."""
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    """Number of failed requests by reason."""
    durations_us: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DURATIONS, 0.0))
    """Durations by Triton's names, in microseconds."""


class TritonCollector(Collector):
    """Collector of the totals that Triton would report."""

    def __init__(self, models: ModelCollector | None, devices: DeviceCollector | None) -> None:
        """Read models and devices from these collectors, if given."""
        self._models = models
        self._devices = devices
        self._sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)

    def count_ended(self, record: RequestContext) -> None:
        """Count an ended request for features of a model or an ended stream item; each is an inference to Triton."""
        if record.quick or record.is_stream or not record.version:
            return
        if record.status != "OK":
            reason = REASON_OF_STATUS.get(record.status, "OTHER")
            self._sums[record.model, record.version].failures[reason] += 1
        elif record.images:
            self._add(self._sums[record.model, record.version], record)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the models that exist now, and of the devices."""
        self._forget_removed()
        sums = dict(self._sums)
        counted: dict[str, Callable[[_Sums], float]] = {
            "nv_inference_request_success": lambda of: of.success,
            "nv_inference_count": lambda of: of.images,
            "nv_inference_exec_count": lambda of: of.runs,
            "nv_inference_request_duration_us": lambda of: of.request_us,
        }
        for name, figure in counted.items():
            yield _family(name, sums, figure)
        for name in DURATIONS:
            yield _family(name, sums, _duration(name))
        failures = UnknownMetricFamily("nv_inference_request_failure", DOC, labels=[*LABELS, "reason"])
        for labels, of in sums.items():
            for reason, count in of.failures.items():
                failures.add_metric([*labels, reason], count)
        yield failures
        if self._models is not None:
            yield self._models.load_seconds("nv_model_load_duration_secs")
        yield from self._collect_devices()

    def _forget_removed(self) -> None:
        """Drop the totals of models that are no longer in the repository."""
        if self._models is not None:
            for labels in set(self._sums) - self._models.current_versions():
                self._sums.pop(labels, None)

    def _collect_devices(self) -> Iterator[Metric]:
        """Yield the metrics of devices."""
        devices = self._devices.devices() if self._devices is not None else []
        for name, figure in DEVICE_FIGURES.items() if devices else ():
            family = GaugeMetricFamily(name, DOC, labels=["gpu_uuid"])
            for device in devices:
                value = figure(device)
                if value is not None:
                    family.add_metric([device.uuid], value)
            yield family

    def _add(self, sums: _Sums, record: RequestContext) -> None:
        """Add a successful request to the totals of its model."""
        sums.success += 1
        sums.runs += len(record.runs)
        sums.images += record.images if record.batch_size else 0  # a cached response is no inference
        sums.request_us += record.seconds * 1e6
        seconds = record.seconds_by_stage()
        for name, stages in DURATIONS.items():
            sums.durations_us[name] += sum(seconds[stage] for stage in stages) * 1e6


def _duration(name: str) -> Callable[[_Sums], float]:
    """Return the function that reads a duration from the totals."""
    return lambda sums: sums.durations_us[name]


def _family(name: str, sums: dict[tuple[str, str], _Sums], figure: Callable[[_Sums], float]) -> UnknownMetricFamily:
    """Return a metric with the value of ``figure`` for each model."""
    family = UnknownMetricFamily(name, DOC, labels=LABELS)
    for labels, of in sums.items():
        family.add_metric(list(labels), figure(of))
    return family
