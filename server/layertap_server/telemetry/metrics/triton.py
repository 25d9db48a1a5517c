"""The names of Triton Inference Server, for dashboards that ask for these.

A Counter of prometheus_client would be called ``…_total``; these samples are untyped, so their names stay as they are.
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
REASON_OF_STATUS = {
    "RESOURCE_EXHAUSTED": "REJECTED",
    "UNAVAILABLE": "REJECTED",
    "DEADLINE_EXCEEDED": "REJECTED",
    "CANCELLED": "CANCELED",
    "INTERNAL": "BACKEND",
    "FAILED_PRECONDITION": "BACKEND",
}
DURATIONS = {
    "nv_inference_queue_duration_us": ("admission", "queue", "batch"),
    "nv_inference_compute_input_duration_us": ("decode", "plan"),
    "nv_inference_compute_infer_duration_us": ("compute",),
    "nv_inference_compute_output_duration_us": ("encode",),
}
"""Triton's durations as sums of our stages."""
DEVICE_FIGURES: dict[str, Callable[[DeviceFigures], float | None]] = {
    "nv_gpu_utilization": lambda device: device.utilization,
    "nv_gpu_memory_total_bytes": lambda device: device.memory_total_bytes,
    "nv_gpu_memory_used_bytes": lambda device: device.memory_used_bytes,
    "nv_gpu_power_usage": lambda device: device.power_watts,
}


@dataclass(slots=True)
class _Sums:
    """Of one version of one model."""

    success: int = 0
    images: int = 0
    runs: int = 0
    request_us: float = 0.0
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    durations_us: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DURATIONS, 0.0))


class TritonCollector(Collector):
    """Adds up what Triton would."""

    def __init__(self, models: ModelCollector | None, devices: DeviceCollector | None) -> None:
        self._models = models
        self._devices = devices
        self._sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)

    def ended(self, record: RequestContext) -> None:
        """Counts a request for features of a model, or an item of a stream; to Triton each is an inference."""
        if record.quick or record.is_stream or not record.version:
            return
        if record.status != "OK":
            reason = REASON_OF_STATUS.get(record.status, "OTHER")
            self._sums[record.model, record.version].failures[reason] += 1
        elif record.images:
            self._add(self._sums[record.model, record.version], record)

    def collect(self) -> Iterator[Metric]:
        self._forget_the_gone()
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
        failures = UnknownMetricFamily(
            "nv_inference_request_failure", "As Triton tells it.", labels=[*LABELS, "reason"]
        )
        for labels, of in sums.items():
            for reason, count in of.failures.items():
                failures.add_metric([*labels, reason], count)
        yield failures
        if self._models is not None:
            yield self._models.load_seconds("nv_model_load_duration_secs")
        yield from self._of_devices()

    def _forget_the_gone(self) -> None:
        if self._models is not None:
            for labels in set(self._sums) - self._models.known():
                self._sums.pop(labels, None)

    def _of_devices(self) -> Iterator[Metric]:
        devices = self._devices.devices() if self._devices is not None else []
        for name, figure in DEVICE_FIGURES.items() if devices else ():
            family = GaugeMetricFamily(name, "As Triton tells it.", labels=["gpu_uuid"])
            for device in devices:
                value = figure(device)
                if value is not None:
                    family.add_metric([device.uuid], value)
            yield family

    def _add(self, sums: _Sums, record: RequestContext) -> None:
        sums.success += 1
        sums.runs += len(record.runs)
        sums.images += record.images if record.batch_size else 0  # a kept answer is no inference
        sums.request_us += record.seconds * 1e6
        seconds = record.seconds_by_stage()
        for name, stages in DURATIONS.items():
            sums.durations_us[name] += sum(seconds[stage] for stage in stages) * 1e6


def _duration(name: str) -> Callable[[_Sums], float]:
    return lambda sums: sums.durations_us[name]


def _family(name: str, sums: dict[tuple[str, str], _Sums], figure: Callable[[_Sums], float]) -> UnknownMetricFamily:
    family = UnknownMetricFamily(name, "As Triton tells it.", labels=LABELS)
    for labels, of in sums.items():
        family.add_metric(list(labels), figure(of))
    return family
